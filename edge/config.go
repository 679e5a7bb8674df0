package edge

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/resource"
	"github.com/edged-io/edged/edge/telemetry"
	"github.com/edged-io/edged/mqtt"
	"github.com/edged-io/edged/sync"
)

// Config is edged.yaml. The zero value of a field means its default; DefaultConfig has them all.
type Config struct {
	Device    string              `yaml:"device"` // lower case, no dots; default from the machine id
	Data      string              `yaml:"data"`   // folder of state and events; one edged at a time
	Run       string              `yaml:"run"`    // folder of the sockets
	Group     string              `yaml:"group"`  // members may connect to sockets of apps without a user
	Resources []string            `yaml:"resources"`
	Apps      []AppConfig         `yaml:"apps"`
	Topics    []TopicConfig       `yaml:"topics"`
	Bridges   []mqtt.BridgeConfig `yaml:"bridges"`
	Upstream  *sync.Config        `yaml:"upstream"`
	Limits    LimitsConfig        `yaml:"limits"`
	Log       LogConfig           `yaml:"log"`
	Health    HealthConfig        `yaml:"deviceHealth"`
	Metrics   MetricsConfig       `yaml:"metrics"`

	dropIn *dropIn // set when edged stands in for daprd
}

// AppConfig is one application that edged serves.
type AppConfig struct {
	ID      string        `yaml:"id"`
	User    string        `yaml:"user"`   // who may connect; default: members of the group
	Socket  string        `yaml:"socket"` // default <run>/<id>.sock
	Listen  ListenConfig  `yaml:"listen"`
	Channel ChannelConfig `yaml:"channel"`
}

// ListenConfig are the optional TCP listeners of an application's API, as host:port.
type ListenConfig struct {
	HTTP string `yaml:"http"`
	GRPC string `yaml:"grpc"`
}

// ChannelConfig is how edged reaches the application.
type ChannelConfig struct {
	Address        string          `yaml:"address"`  // 127.0.0.1:6001 or unix:///path; empty: the application is only a client
	Protocol       string          `yaml:"protocol"` // http, https, grpc, grpcs, h2c
	MaxConcurrency int             `yaml:"maxConcurrency"`
	Health         AppHealthConfig `yaml:"health"`
}

// AppHealthConfig are the probes of an application's health (Dapr app health checks).
type AppHealthConfig struct {
	Enabled   bool          `yaml:"enabled"`
	Path      string        `yaml:"path"`
	Interval  time.Duration `yaml:"interval"`
	Timeout   time.Duration `yaml:"timeout"`
	Threshold int           `yaml:"threshold"`
}

// TopicConfig is the delivery contract of the topics that match; the first match wins.
type TopicConfig struct {
	Match     string         `yaml:"match"`
	MaxBytes  resource.Bytes `yaml:"maxBytes"`
	MaxEvents int64          `yaml:"maxEvents"`
	MaxAge    time.Duration  `yaml:"maxAge"`
	WhenFull  string         `yaml:"whenFull"` // reject or drop-oldest
}

// LimitsConfig bound what edged takes in and keeps.
type LimitsConfig struct {
	MaxBodySize    resource.Bytes `yaml:"maxBodySize"`    // of one request
	Reserve        resource.Bytes `yaml:"reserve"`        // disk space that only deletes and acks may use
	CommitInterval time.Duration  `yaml:"commitInterval"` // 0: every write is on disk before it is answered
}

// LogConfig is how edged logs, on standard error.
type LogConfig struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"` // logfmt or json
}

// HealthConfig is the device's own telemetry: metrics always, and a topic if one is named.
type HealthConfig struct {
	Interval time.Duration `yaml:"interval"`
	PubSub   string        `yaml:"pubsub"`
	Topic    string        `yaml:"topic"`
}

// MetricsConfig is the optional Prometheus listener. The admin socket serves the metrics in any case.
type MetricsConfig struct {
	Listen string `yaml:"listen"`
}

const (
	defaultMaxBody  = 4 << 20
	defaultReserve  = 4 << 20
	defaultGroup    = "edged"
	defaultPubSub   = "pubsub"
	defaultStore    = "statestore"
	defaultProtocol = "http"
)

// DefaultConfig returns the defaults for the user that runs edged: system folders for root and for a service with
// STATE_DIRECTORY and RUNTIME_DIRECTORY (systemd.exec(5)), the user's own otherwise.
func DefaultConfig() Config {
	return Config{
		Device: deviceID(),
		Data:   firstOf(os.Getenv("STATE_DIRECTORY"), rootOr("/var/lib/edged", userFolder("XDG_STATE_HOME", ".local/state"))),
		Run:    firstOf(os.Getenv("RUNTIME_DIRECTORY"), rootOr("/run/edged", userFolder("XDG_RUNTIME_DIR", ".local/run"))),
		Group:  defaultGroup,
		Limits: LimitsConfig{MaxBodySize: defaultMaxBody, Reserve: defaultReserve},
		Log:    LogConfig{Level: "info", Format: "logfmt"},
		Health: HealthConfig{Interval: 30 * time.Second, PubSub: defaultPubSub},
	}
}

// LoadConfig reads edged.yaml strictly over the defaults and reports every fault at once, as resource.Faults.
func LoadConfig(file string) (Config, error) {
	cfg := DefaultConfig()
	data, err := os.ReadFile(file)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return cfg, fmt.Errorf("read configuration: %w: write one (configs/edged.yaml shows every field) or leave --config out for the defaults", err)
		}
		return cfg, fmt.Errorf("read configuration: %w", err)
	}
	if faults := resource.DecodeStrict(file, data, &cfg); len(faults) > 0 {
		return cfg, faults
	}
	return cfg, nil
}

var (
	idPattern     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9_]{0,62}[a-z0-9])?$`)
	appProtocols  = map[string]bool{"http": true, "https": true, "grpc": true, "grpcs": true, "h2c": true}
	errNotAddress = errors.New("is not host:port")
)

// Validate reports what a strict decode cannot see.
func (c *Config) Validate(report func(field, value, problem, hint string)) {
	if !idPattern.MatchString(c.Device) {
		report("device", c.Device, "is not a device id", "lower-case letters, digits, - and _, at most 64, no dots")
	}
	if _, err := telemetry.ParseLevel(c.Log.Level); err != nil {
		report("log.level", c.Log.Level, "is not a log level", "debug, info, warn or error")
	}
	if c.Log.Format != "logfmt" && c.Log.Format != "json" {
		report("log.format", c.Log.Format, "is not a log format", "logfmt or json")
	}
	c.Limits.validate(report)
	if c.Metrics.Listen != "" && checkAddress(c.Metrics.Listen) != nil {
		report("metrics.listen", c.Metrics.Listen, errNotAddress.Error(), "for example 127.0.0.1:9090")
	}
	taken := map[string]string{c.Metrics.Listen: "metrics.listen"} // address, path or id -> the field that has it
	for i := range c.Apps {
		field := fmt.Sprintf("apps[%d].", i)
		c.Apps[i].validate(field, report)
		c.Apps[i].validateUnique(field, taken, AdminSocket(*c), c.Run, report)
	}
	for i, t := range c.Topics {
		t.validate(fmt.Sprintf("topics[%d].", i), report)
	}
	mqtt.ValidateBridges(c.Bridges, func(field, value, problem, hint string) { report("bridges"+field, value, problem, hint) })
	bridges := map[string]bool{}
	for i, b := range c.Bridges {
		if bridges[b.Name] {
			report(fmt.Sprintf("bridges[%d].name", i), b.Name, "is used twice", "bridge names are unique")
		}
		bridges[b.Name] = true
	}
}

func (l *LimitsConfig) validate(report func(field, value, problem, hint string)) {
	if l.MaxBodySize <= 0 {
		report("limits.maxBodySize", fmt.Sprint(l.MaxBodySize), "must be more than 0", "for example 4MiB")
	}
}

func (t *TopicConfig) validate(field string, report func(field, value, problem, hint string)) {
	if t.Match == "" {
		report(field+"match", "", "is required", "a topic name or an MQTT topic filter such as alarms/#")
	} else if err := mqtt.ValidateFilter(t.Match); err != nil {
		report(field+"match", t.Match, err.Error(), "a topic name or an MQTT topic filter such as alarms/#")
	}
	if w := pubsub.Full(t.WhenFull); w != "" && w != pubsub.Reject && w != pubsub.DropOldest {
		report(field+"whenFull", t.WhenFull, "is not a policy", "reject or drop-oldest")
	}
	if t.MaxEvents < 0 {
		report(field+"maxEvents", fmt.Sprint(t.MaxEvents), "is negative", "leave it out for the default bound")
	}
}

// validateUnique reports what another part of the configuration has already, as taken says, which it completes.
func (a *AppConfig) validateUnique(field string, taken map[string]string, adminSocket, run string, report func(field, value, problem, hint string)) {
	claim := func(name, key, value, hint string) (free bool) {
		by, used := taken[key]
		if used {
			report(field+name, value, "is used twice, also by "+by, hint)
		}
		taken[key] = field + name
		return !used
	}
	own := a.ID != "" && claim("id", "id "+a.ID, a.ID, "every application has an id of its own")
	socket := a.socket(run)
	switch {
	case socket == adminSocket:
		report(field+"socket", socket, "is the admin socket", "give the application another id or another socket")
	case len(socket) > maxSocketPath:
		report(field+"socket", socket, fmt.Sprintf("is longer than the %d bytes that a socket's path can have", maxSocketPath), "use a shorter folder")
	case own || a.Socket != "":
		claim("socket", socket, socket, "every application has a socket of its own")
	}
	for _, l := range []struct{ name, addr string }{{"listen.http", a.Listen.HTTP}, {"listen.grpc", a.Listen.GRPC}} {
		if _, port, err := net.SplitHostPort(l.addr); err == nil && port != "0" {
			claim(l.name, l.addr, l.addr, "every listener has an address of its own")
		}
	}
}

// maxSocketPath is what fits into sun_path with its end (unix(7)).
const maxSocketPath = 107

// socket is the path of the application's socket.
func (a *AppConfig) socket(run string) string {
	return firstOf(a.Socket, filepath.Join(run, a.ID+".sock"))
}

func (a *AppConfig) validate(field string, report func(field, value, problem, hint string)) {
	switch {
	case a.ID == "":
		report(field+"id", "", "is required", "lower-case letters, digits and -")
	case !idPattern.MatchString(a.ID):
		report(field+"id", a.ID, "is not an application id", "lower-case letters, digits, - and _, at most 64, no dots")
	}
	for _, l := range []struct{ name, addr string }{{"listen.http", a.Listen.HTTP}, {"listen.grpc", a.Listen.GRPC}} {
		if l.addr != "" && checkAddress(l.addr) != nil {
			report(field+l.name, l.addr, errNotAddress.Error(), "for example 127.0.0.1:3500")
		}
	}
	if p := a.Channel.Protocol; p != "" && !appProtocols[p] {
		report(field+"channel.protocol", p, "is not a protocol", "http, https, grpc, grpcs or h2c")
	}
	path, unix := strings.CutPrefix(a.Channel.Address, "unix://")
	if addr := a.Channel.Address; addr != "" && (unix && path == "" || !unix && checkAddress(addr) != nil) {
		report(field+"channel.address", addr, "is neither host:port nor unix:///path", "for example 127.0.0.1:6001")
	}
	if n := a.Channel.Health.Threshold; n < 0 {
		report(field+"channel.health.threshold", strconv.Itoa(n), "is negative", "0 means the default")
	}
}

func checkAddress(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errNotAddress
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errNotAddress
	}
	return nil
}

func (c *Config) contracts() []pubsub.Contract {
	out := make([]pubsub.Contract, 0, len(c.Topics))
	for _, t := range c.Topics {
		full := pubsub.Full(t.WhenFull)
		if full == "" {
			full = pubsub.DropOldest
		}
		out = append(out, pubsub.Contract{
			Match: t.Match, MaxBytes: int64(t.MaxBytes), MaxEvents: t.MaxEvents, MaxAge: t.MaxAge, WhenFull: full,
		})
	}
	return out
}

func rootOr(root, user string) string {
	if os.Geteuid() == 0 {
		return root
	}
	return user
}

func userFolder(env, fallback string) string {
	if dir := os.Getenv(env); dir != "" {
		return filepath.Join(dir, "edged")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, fallback, "edged")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("edged-%d", os.Geteuid()))
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// deviceID derives a name from the machine id, which survives reboots (machine-id(5)), else from the host name.
func deviceID() string {
	if b, err := os.ReadFile("/etc/machine-id"); err == nil {
		if id := strings.TrimSpace(string(b)); len(id) >= 12 {
			return "edge-" + strings.ToLower(id[:12])
		}
	}
	host, err := os.Hostname()
	if err != nil {
		return "edge"
	}
	name, _, _ := strings.Cut(strings.ToLower(host), ".")
	if !idPattern.MatchString(name) {
		return "edge"
	}
	return name
}
