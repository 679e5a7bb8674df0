package sync

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/edged-io/edged/edge/resource"
)

// Config is the upstream section of edged.yaml. Zero values mean the defaults that SetDefaults gives.
type Config struct {
	URL         string      `yaml:"url"` // nats://, tls://, ws:// or wss://; several separated by commas for a cluster
	Credentials Credentials `yaml:"credentials"`
	TLS         TLSConfig   `yaml:"tls"`
	Events      []EventRule `yaml:"events"`
	State       []StateRule `yaml:"state"`
	Batch       BatchConfig `yaml:"batch"`
	Stream      string      `yaml:"stream"`      // of events
	Bucket      string      `yaml:"bucket"`      // of state
	InboxPrefix string      `yaml:"inboxPrefix"` // default _INBOX_<device>
	Compression bool        `yaml:"compression"` // of WebSocket connections
	Backoff     Backoff     `yaml:"backoff"`
	// Timeout is how long an answer may take. After it the outcome counts as unknown and is found out.
	Timeout time.Duration `yaml:"timeout"`
	// Grace is how long acknowledged events stay in the journal, in case the upstream loses them; see GraceBytes.
	Grace time.Duration `yaml:"grace"`
	// GraceBytes bounds what Grace keeps of each journal lane.
	GraceBytes resource.Bytes `yaml:"graceBytes"`
	// UnknownEpoch says what to do when the upstream holds a cursor of an incarnation of this device that the device does not
	// know (its database was replaced, or another device uses its id): stop, or take-over.
	UnknownEpoch string `yaml:"unknownEpoch" enum:"stop,take-over"`
	// AcceptEpoch is the one unknown epoch that may be taken over; the status shows it.
	AcceptEpoch string `yaml:"acceptEpoch"`
}

// Credentials are of exactly one kind, or none.
type Credentials struct {
	Secret   string `yaml:"secret"` // name in a secret store: its fields token, or user and password, or nkey (seed), or creds (file text)
	Store    string `yaml:"store"`  // secret store component; default: the only one
	User     string `yaml:"user"`
	Password string `yaml:"password"`
	Token    string `yaml:"token"`
	File     string `yaml:"file"` // NATS credentials file (JWT and seed), or a file that holds an nkey seed
}

// TLSConfig holds PEM files. They are read at every connect, so rotation needs no restart.
type TLSConfig struct {
	CA         string `yaml:"ca"`
	Cert       string `yaml:"cert"`
	Key        string `yaml:"key"`
	ServerName string `yaml:"serverName"`
}

// EventRule sends the events of some topics up through a lane. The first rule that matches a topic wins.
type EventRule struct {
	Topics string `yaml:"topics"` // MQTT topic filter
	Lane   string `yaml:"lane"`   // control, alarm, state, telemetry, bulk, or another name (which counts as telemetry)
	PubSub string `yaml:"pubsub"` // component; default pubsub
}

// StateRule says who owns the keys that begin with Prefix, as the application writes them. The first rule that matches
// wins; keys that match none stay on the device.
type StateRule struct {
	Store  string `yaml:"store"` // component; default statestore
	App    string `yaml:"app"`   // empty: every application
	Prefix string `yaml:"prefix"`
	Owner  Owner  `yaml:"owner" enum:"device,cloud"`
}

func (r StateRule) store() string {
	if r.Store == "" {
		return "statestore"
	}
	return r.Store
}

func (r EventRule) pubsub() string {
	if r.PubSub == "" {
		return "pubsub"
	}
	return r.PubSub
}

// Owner is the one side that may write a key. What the other side writes to it is overwritten, and reported as a conflict
// where this device can see it.
type Owner string

// The owners.
const (
	OwnerDevice Owner = "device"
	OwnerCloud  Owner = "cloud"
)

// BatchConfig bounds one batch. The bytes also follow the measured rate of the link, so that a batch takes about a second.
type BatchConfig struct {
	MaxEvents int            `yaml:"maxEvents"`
	MaxBytes  resource.Bytes `yaml:"maxBytes"`
}

// Backoff bounds the wait between attempts: random between nothing and a bound that doubles from Min to Max.
type Backoff struct {
	Min time.Duration `yaml:"min"`
	Max time.Duration `yaml:"max"`
}

// lanePriority is strict: a lane with a lower number goes first. Lanes with the same number share by weight.
var lanePriority = map[string]struct{ class, weight int }{
	"control": {0, 1}, "alarm": {1, 1}, "state": {2, 8}, "telemetry": {2, 4}, "bulk": {2, 1},
}

var (
	_ resource.Defaulter = (*Config)(nil)
	_ resource.Validator = Config{}
)

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	var c Config
	c.SetDefaults()
	return c
}

// SetDefaults fills every field that has a default.
func (c *Config) SetDefaults() {
	*c = Config{
		Batch:        BatchConfig{MaxEvents: 500, MaxBytes: 1 << 20},
		Stream:       "EDGED_EV",
		Bucket:       "edged",
		Compression:  true,
		Backoff:      Backoff{Min: 100 * time.Millisecond, Max: 15 * time.Second},
		Timeout:      10 * time.Second,
		Grace:        10 * time.Minute,
		GraceBytes:   4 << 20,
		UnknownEpoch: "stop",
	}
}

// Validate reports what is wrong with the configuration, all of it.
func (c Config) Validate(report func(field, value, problem, hint string)) {
	c.validateURL(report)
	kinds := 0
	for _, set := range []bool{c.Credentials.Secret != "", c.Credentials.User != "", c.Credentials.Token != "", c.Credentials.File != ""} {
		if set {
			kinds++
		}
	}
	if kinds > 1 {
		report("credentials", "", "are of several kinds", "secret, or user and password, or token, or file")
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		report("tls", "", "has a certificate or a key, but not both", "set tls.cert and tls.key")
	}
	laneName := regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`).MatchString
	for i, r := range c.Events {
		if field := fmt.Sprintf("events[%d]", i); !validFilter(r.Topics) {
			report(field+".topics", r.Topics, "is not a topic filter", `such as sensors/# or plant/+/alarm`)
		} else if !laneName(r.Lane) {
			report(field+".lane", r.Lane, "is not a lane", "control, alarm, state, telemetry, bulk, or a name in lower case")
		}
	}
	for i, r := range c.State {
		if r.Owner != OwnerDevice && r.Owner != OwnerCloud {
			report(fmt.Sprintf("state[%d].owner", i), string(r.Owner), "is not an owner", "device or cloud")
		}
		if r.store() != c.State[0].store() {
			report(fmt.Sprintf("state[%d].store", i), r.Store, "is a second store", "a bucket takes the keys of one store per device")
		}
	}
	if c.Batch.MaxEvents < 1 || c.Batch.MaxEvents > 999 {
		report("batch.maxEvents", fmt.Sprint(c.Batch.MaxEvents), "is out of range", "1 to 999: a NATS server takes 1000 messages per batch")
	}
	if c.Batch.MaxBytes < 1<<10 {
		report("batch.maxBytes", fmt.Sprint(int64(c.Batch.MaxBytes)), "is too small", "1MiB is usual")
	}
	if c.Backoff.Min <= 0 || c.Backoff.Max < c.Backoff.Min {
		report("backoff", "", "needs 0 < min <= max", "min: 100ms, max: 15s")
	}
	if c.Timeout < 100*time.Millisecond {
		report("timeout", c.Timeout.String(), "is too short", "10s is usual")
	}
	if c.InboxPrefix != "" && (strings.ContainsAny(c.InboxPrefix, "*> \t") || strings.HasSuffix(c.InboxPrefix, ".")) {
		report("inboxPrefix", c.InboxPrefix, "is not a subject prefix", "without wildcards and without a dot at its end")
	}
}

func (c Config) validateURL(report func(field, value, problem, hint string)) {
	if c.URL == "" {
		report("url", "", "is empty", "such as wss://hub.example or nats://127.0.0.1:4222")
		return
	}
	webSocket := 0
	all := strings.Split(c.URL, ",")
	for _, s := range all {
		u, err := url.Parse(strings.TrimSpace(s))
		switch {
		case err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
			report("url", s, "is not an upstream", "nats://, tls://, ws:// or wss://, then host and port")
		case u.User != nil:
			report("url", "(hidden)", "contains credentials", "put them under credentials")
		case u.Scheme == "ws" || u.Scheme == "wss":
			webSocket++
		}
	}
	if webSocket > 0 && webSocket < len(all) {
		report("url", c.URL, "mixes WebSocket and TCP", "use one of them")
	}
}

// validFilter checks an MQTT topic filter (MQTT 5, 4.7).
func validFilter(filter string) bool {
	if filter == "" || strings.ContainsRune(filter, 0) {
		return false
	}
	levels := strings.Split(filter, "/")
	for i, l := range levels {
		if strings.ContainsAny(l, "+#") && (len(l) > 1 || l == "#" && i < len(levels)-1) {
			return false
		}
	}
	return true
}

// matches reports whether an MQTT topic filter matches a topic.
func matches(filter, topic string) bool {
	for {
		f, fRest, fMore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, tRest, tMore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		if !fMore || !tMore {
			return fMore == tMore || fMore && fRest == "#"
		}
		filter, topic = fRest, tRest
	}
}

// owner returns who owns a key, and false if it is not synced.
func owner(rules []StateRule, key string) (Owner, bool) {
	app, name, has := strings.Cut(key, "||")
	if !has {
		app, name = "", key
	}
	for _, r := range rules {
		if (r.App == "" || r.App == app) && strings.HasPrefix(name, r.Prefix) {
			return r.Owner, true
		}
	}
	return "", false
}
