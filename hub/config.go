// Package hub is the embedded default upstream: a NATS JetStream server with the event stream and the state bucket that
// edged devices sync to, in one process. What it acknowledges is on disk. Devices see their own subjects only. It is for
// demos, tests and small fleets: a larger fleet points the same devices at its own NATS cluster.
package hub

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/edged-io/edged/edge/resource"
)

// Config is edged-hub's configuration file. DefaultConfig has the defaults; the zero value of a listener is "off".
type Config struct {
	Data    string       `yaml:"data"`    // folder of streams; one hub at a time
	Listen  ListenConfig `yaml:"listen"`  // host:port each
	TLS     TLSConfig    `yaml:"tls"`     // for every listener
	Devices string       `yaml:"devices"` // credentials file (Accounts); empty: open to everybody on loopback
	Events  EventConfig  `yaml:"events"`
	State   StateConfig  `yaml:"state"`
	Log     LogConfig    `yaml:"log"`
	// MaxPayload bounds one event or value with its headers. NATS advises against more than 8 MiB.
	MaxPayload resource.Bytes `yaml:"maxPayload"`
}

// ListenConfig are the listeners, as host:port. Empty: not opened. Port 0 takes a free one.
type ListenConfig struct {
	NATS      string `yaml:"nats"`
	WebSocket string `yaml:"websocket"`
	MQTT      string `yaml:"mqtt"`
	Monitor   string `yaml:"monitor"` // NATS monitoring pages (HTTP); loopback only
	// PlainWebSocket allows a WebSocket listener without TLS that is not on loopback, behind a proxy that ends TLS.
	PlainWebSocket bool `yaml:"plainWebsocket"`
}

// TLSConfig holds PEM files. A changed certificate is picked up on SIGHUP.
type TLSConfig struct {
	Cert     string `yaml:"cert"`
	Key      string `yaml:"key"`
	ClientCA string `yaml:"clientCA"` // when set, clients must present a certificate that it signed
}

// EventConfig is the stream of all devices' events (limits retention: reading removes nothing).
type EventConfig struct {
	Stream     string         `yaml:"stream"`
	MaxAge     time.Duration  `yaml:"maxAge"`     // 0: no bound
	MaxBytes   resource.Bytes `yaml:"maxBytes"`   // 0: no bound
	Duplicates time.Duration  `yaml:"duplicates"` // how long message ids are remembered
}

// StateConfig is the key-value bucket of all devices' state.
type StateConfig struct {
	Bucket  string `yaml:"bucket"`
	History int    `yaml:"history"` // revisions kept per key, 1 to 64
}

// LogConfig is how the hub logs, on standard error.
type LogConfig struct {
	Level  string `yaml:"level" enum:"debug,info,warn,error"`
	Format string `yaml:"format" enum:"logfmt,json"`
}

// DefaultConfig returns what edged-hub runs with when nothing is configured: NATS and WebSocket on loopback.
func DefaultConfig() Config {
	return Config{
		Data:       dataFolder(),
		Listen:     ListenConfig{NATS: "127.0.0.1:4222", WebSocket: "127.0.0.1:4223"},
		Events:     EventConfig{Stream: "EDGED_EV", MaxAge: 30 * 24 * time.Hour, Duplicates: 2 * time.Minute},
		State:      StateConfig{Bucket: "edged", History: 1},
		Log:        LogConfig{Level: "info", Format: "logfmt"},
		MaxPayload: 8 << 20,
	}
}

func dataFolder() string {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" { // systemd.exec(5)
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/edged-hub"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "edged-hub")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "edged-hub-data"
	}
	return filepath.Join(home, ".local/state/edged-hub")
}

var _ resource.Validator = Config{}

// Validate reports what is wrong with the configuration, all of it.
func (c Config) Validate(report func(field, value, problem, hint string)) {
	name := regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`).MatchString
	if c.Data == "" {
		report("data", "", "is empty", "name a folder")
	}
	if c.Listen.NATS == "" {
		report("listen.nats", "", "is empty", "the hub needs its NATS listener; 127.0.0.1:4222 keeps it on this machine")
	}
	for field, addr := range c.Listen.all() {
		c.validateListener(report, "listen."+field, addr)
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		report("tls", "", "has a certificate or a key, but not both", "set tls.cert and tls.key")
	}
	if c.TLS.ClientCA != "" && c.TLS.Cert == "" {
		report("tls.clientCA", c.TLS.ClientCA, "needs a server certificate", "set tls.cert and tls.key")
	}
	if !name(c.Events.Stream) {
		report("events.stream", c.Events.Stream, "is not a stream name", "letters, digits, - and _")
	}
	if !name(c.State.Bucket) {
		report("state.bucket", c.State.Bucket, "is not a bucket name", "letters, digits, - and _")
	}
	if c.State.History < 1 || c.State.History > 64 {
		report("state.history", fmt.Sprint(c.State.History), "is out of range", "1 to 64")
	}
	if c.Events.Duplicates < 100*time.Millisecond {
		report("events.duplicates", c.Events.Duplicates.String(), "is too short", "2m is usual")
	}
	if c.MaxPayload < 4<<10 || c.MaxPayload > 64<<20 {
		report("maxPayload", fmt.Sprint(int64(c.MaxPayload)), "is out of range", "4KiB to 64MiB")
	}
}

func (l ListenConfig) all() map[string]string {
	out := map[string]string{}
	for field, addr := range map[string]string{"nats": l.NATS, "websocket": l.WebSocket, "mqtt": l.MQTT, "monitor": l.Monitor} {
		if addr != "" {
			out[field] = addr
		}
	}
	return out
}

func (c Config) validateListener(report func(field, value, problem, hint string), field, addr string) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		report(field, addr, "is not host:port", "such as 127.0.0.1:4222")
		return
	}
	if loopback(host) {
		return
	}
	switch {
	case c.Devices == "":
		report(field, addr, "is reachable from other machines, and the hub has no credentials",
			"set devices to a credentials file, or listen on 127.0.0.1")
	case field == "listen.monitor":
		report(field, addr, "is reachable from other machines", "monitoring shows every subject: listen on 127.0.0.1")
	case field == "listen.websocket" && c.TLS.Cert == "" && !c.Listen.PlainWebSocket:
		report(field, addr, "would carry credentials in clear text",
			"set tls.cert and tls.key, or plainWebsocket: true behind a proxy that ends TLS")
	}
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
