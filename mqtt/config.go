package mqtt

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/edged-io/edged/edge/resource"
)

// BridgeConfig connects a pub/sub component with an MQTT broker.
type BridgeConfig struct {
	Name        string            `yaml:"name"`
	Broker      string            `yaml:"broker"`   // mqtt://, mqtts://, ws:// or wss:// host[:port]
	PubSub      string            `yaml:"pubsub"`   // component that is bridged
	ClientID    string            `yaml:"clientId"` // default edged-<device>-<name>
	Credentials BridgeCredentials `yaml:"credentials"`
	TLS         TLSConfig         `yaml:"tls"`
	// StatusTopic carries a retained birth ("online") and last will ("offline"), each with the session's number. Default
	// edged/<client id>/status; none turns it off.
	StatusTopic string         `yaml:"statusTopic"`
	KeepAlive   time.Duration  `yaml:"keepAlive"`
	MaxInflight int            `yaml:"maxInflight"` // publications sent ahead of their acknowledgements
	MaxPayload  resource.Bytes `yaml:"maxPayload"`  // larger messages are dropped and counted, in both directions
	// HopLimit is through how many devices an event may have passed (CloudEvents extension edgedvia) before it is dropped.
	HopLimit int       `yaml:"hopLimit"`
	Out      []OutRule `yaml:"out"`
	In       []InRule  `yaml:"in"`
}

// BridgeCredentials say who the bridge is to the broker; they are read again for every connection.
type BridgeCredentials struct {
	Username     string `yaml:"username"`
	Password     string `yaml:"password"`
	PasswordFile string `yaml:"passwordFile"` // instead of password
	// Secret names a secret whose keys username, password, caCert, clientCert and clientKey go before the fields here.
	Secret string `yaml:"secret"`
}

// OutRule sends local events to the broker.
type OutRule struct {
	Name    string `yaml:"name"`    // durable identity of the rule's place in the journal; default its topics
	Topics  string `yaml:"topics"`  // local topic filter
	Strip   string `yaml:"strip"`   // levels to take off
	Prefix  string `yaml:"prefix"`  // levels to put before
	QoS     int    `yaml:"qos"`     // 0, 1 or 2
	Retain  bool   `yaml:"retain"`  // the broker keeps the last message of each topic
	Payload string `yaml:"payload"` // cloudevent: the whole event as JSON; raw: its data only
}

// InRule takes messages from the broker.
type InRule struct {
	Filter  string `yaml:"filter"` // the broker's topic filter
	Strip   string `yaml:"strip"`
	Prefix  string `yaml:"prefix"`
	QoS     int    `yaml:"qos"`
	Payload string `yaml:"payload"` // auto: CloudEvents pass, all else is wrapped; cloudevent: all else is dropped; raw: all is wrapped
}

// The forms of a payload.
const (
	PayloadAuto       = "auto"
	PayloadCloudEvent = "cloudevent"
	PayloadRaw        = "raw"
)

// SetDefaults implements resource.Defaulter.
func (c *BridgeConfig) SetDefaults() {
	c.PubSub, c.KeepAlive, c.MaxInflight, c.MaxPayload, c.HopLimit = "pubsub", 30*time.Second, 50, 4<<20, 8
}

// SetDefaults implements resource.Defaulter.
func (r *OutRule) SetDefaults() { r.QoS, r.Payload = 1, PayloadCloudEvent }

// SetDefaults implements resource.Defaulter.
func (r *InRule) SetDefaults() { r.QoS, r.Payload = 1, PayloadAuto }

var bridgeName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_]{0,62}[A-Za-z0-9])?$`)

// Validate implements resource.Validator. It also refuses rules by which a message would return to where it came from.
func (c *BridgeConfig) Validate(report func(field, value, problem, hint string)) {
	if !bridgeName.MatchString(c.Name) {
		report("name", c.Name, "is not a bridge name", "letters, digits, - and _, at most 64")
	}
	if _, err := parseURL(c.Broker); err != nil {
		report("broker", "", err.Error(), "for example mqtts://broker.plant:8883")
	}
	if c.ClientID != "" && validText(c.ClientID) != nil {
		report("clientId", "", "is not clean UTF-8 text", "")
	}
	if c.StatusTopic != "" && c.StatusTopic != statusOff {
		if err := ValidateTopic(c.StatusTopic); err != nil {
			report("statusTopic", c.StatusTopic, err.Error(), "a topic, or none")
		}
	}
	if c.Credentials.Password != "" && c.Credentials.PasswordFile != "" {
		report("credentials.passwordFile", "", "is given beside password", "keep one of the two")
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		report("tls", "", "has only one of cert and key", "a client certificate needs both")
	}
	if c.KeepAlive < time.Second || c.KeepAlive > 18*time.Hour {
		report("keepAlive", c.KeepAlive.String(), "is not between 1s and 18h", "")
	}
	if c.MaxInflight < 1 || c.MaxInflight > 1000 {
		report("maxInflight", strconv.Itoa(c.MaxInflight), "is not between 1 and 1000", "20 to 100 suit most links")
	}
	if c.MaxPayload < 1 || c.MaxPayload > maxMQTTPayload {
		report("maxPayload", c.MaxPayload.String(), "is not between 1 byte and 255MiB", "")
	}
	if c.HopLimit < 1 {
		report("hopLimit", strconv.Itoa(c.HopLimit), "must be at least 1", "")
	}
	if len(c.Out) == 0 && len(c.In) == 0 {
		report("", "", "bridges nothing", "give it rules under out or in")
	}
	c.validateRules(report)
}

// maxMQTTPayload leaves room for the topic in what MQTT can carry (256 MiB).
const maxMQTTPayload = 255 << 20

const statusOff = "none"

func (c *BridgeConfig) validateRules(report func(field, value, problem, hint string)) {
	names := map[string]bool{}
	for i, r := range c.Out {
		at := inField(report, fmt.Sprintf("out[%d].", i))
		r.mapping().validate(at, "topics")
		validateQoS(r.QoS, at)
		if r.Payload != PayloadCloudEvent && r.Payload != PayloadRaw {
			at("payload", r.Payload, "is not a form of payload", "cloudevent or raw")
		}
		if names[r.id()] {
			at("name", r.id(), "is used twice", "give rules with the same topics a name each")
		}
		names[r.id()] = true
	}
	for i, r := range c.In {
		at := inField(report, fmt.Sprintf("in[%d].", i))
		if strings.HasPrefix(r.Filter, "$share/") {
			at("filter", r.Filter, "is a shared subscription", "a bridge needs every message in order")
		}
		r.mapping().validate(at, "filter")
		validateQoS(r.QoS, at)
		if r.Payload != PayloadAuto && r.Payload != PayloadCloudEvent && r.Payload != PayloadRaw {
			at("payload", r.Payload, "is not a form of payload", "auto, cloudevent or raw")
		}
		for j := range c.In[:i] {
			if Overlap(r.Filter, c.In[j].Filter) {
				at("filter", r.Filter, fmt.Sprintf("overlaps in[%d] (%s): the broker may send a message twice", j, c.In[j].Filter), "make the filters disjoint")
			}
		}
	}
	for _, l := range loops(c, c) {
		report(fmt.Sprintf("out[%d].topics", l.out), c.Out[l.out].Topics, l.problem, l.hint)
	}
}

func inField(report func(field, value, problem, hint string), prefix string) func(field, value, problem, hint string) {
	return func(field, value, problem, hint string) { report(prefix+field, value, problem, hint) }
}

func validateQoS(qos int, report func(field, value, problem, hint string)) {
	if qos < 0 || qos > 2 {
		report("qos", strconv.Itoa(qos), "is not a quality of service", "0, 1 or 2")
	}
}

func (r *OutRule) mapping() Mapping {
	return Mapping{Filter: r.Topics, Strip: r.Strip, Prefix: r.Prefix}
}
func (r *InRule) mapping() Mapping {
	return Mapping{Filter: r.Filter, Strip: r.Strip, Prefix: r.Prefix}
}

func (r *OutRule) id() string {
	if r.Name != "" {
		return r.Name
	}
	return r.Topics
}

// loop is an out rule whose messages come back.
type loop struct {
	out           int
	problem, hint string
}

// loops finds the out rules of a whose messages an in rule of b would bring back. MQTT 3.1.1 has no way to tell the
// broker not to send a client its own messages, so what is sent and what is taken must be disjoint.
func loops(a, b *BridgeConfig) []loop {
	var out []loop
	for i := range a.Out {
		image := a.Out[i].mapping().image()
		for j := range b.In {
			if Overlap(image, b.In[j].Filter) {
				out = append(out, loop{
					out:     i,
					problem: fmt.Sprintf("goes to %s, which in[%d] of bridge %s (%s) would bring back: a loop", image, j, b.Name, b.In[j].Filter),
					hint:    "give what is sent and what is taken different prefixes at the broker",
				})
			}
		}
	}
	return out
}

// ValidateBridges reports loops between different bridges to the same broker, with field paths such as
// [1].out[0].topics. Each bridge checks itself.
func ValidateBridges(bridges []BridgeConfig, report func(field, value, problem, hint string)) {
	for i := range bridges {
		for j := range bridges {
			a, b := &bridges[i], &bridges[j]
			if i == j || a.PubSub != b.PubSub || !sameBroker(a.Broker, b.Broker) {
				continue
			}
			for _, l := range loops(a, b) {
				report(fmt.Sprintf("[%d].out[%d].topics", i, l.out), a.Out[l.out].Topics, l.problem, l.hint)
			}
		}
	}
}

func sameBroker(a, b string) bool {
	x, errX := parseURL(a)
	y, errY := parseURL(b)
	return errX == nil && errY == nil && (x.address == y.address || x.host != "" && x.host == y.host)
}
