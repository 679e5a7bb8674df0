package mqtt_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/resource"
	"github.com/edged-io/edged/mqtt"
)

func faultsOf(c mqtt.BridgeConfig) (fields []string) {
	c.Validate(func(field, _, problem, _ string) { fields = append(fields, field+": "+problem) })
	return fields
}

func TestBridgeConfig_Validate(t *testing.T) {
	good := func() mqtt.BridgeConfig {
		c := bridgeConfig("plant", "mqtts://user:secret@broker.plant")
		c.Out = []mqtt.OutRule{outRule("sensors/#", "", "plant1/gw17/")}
		c.In = []mqtt.InRule{inRule("plant1/commands/gw17/#", "plant1/commands/gw17/", "")}
		return c
	}
	if got := faultsOf(good()); len(got) > 0 {
		t.Fatalf("faults in a good configuration: %q", got)
	}
	cases := []struct {
		name   string
		change func(*mqtt.BridgeConfig)
		want   string
	}{
		{"Name", func(c *mqtt.BridgeConfig) { c.Name = "a b" }, "name: is not a bridge name"},
		{"Scheme", func(c *mqtt.BridgeConfig) { c.Broker = "http://x" }, "broker: scheme"},
		{"NoSecretInFault", func(c *mqtt.BridgeConfig) { c.Broker = "mqtt://u:hunter2@%zz" }, "broker: is not a URL"},
		{"KeepAlive", func(c *mqtt.BridgeConfig) { c.KeepAlive = time.Millisecond }, "keepAlive: "},
		{"Inflight", func(c *mqtt.BridgeConfig) { c.MaxInflight = 0 }, "maxInflight: "},
		{"Hops", func(c *mqtt.BridgeConfig) { c.HopLimit = 0 }, "hopLimit: "},
		{"Nothing", func(c *mqtt.BridgeConfig) { c.In, c.Out = nil, nil }, ": bridges nothing"},
		{"QoS", func(c *mqtt.BridgeConfig) { c.Out[0].QoS = 3 }, "out[0].qos: "},
		{"Payload", func(c *mqtt.BridgeConfig) { c.Out[0].Payload = "xml" }, "out[0].payload: "},
		{"Filter", func(c *mqtt.BridgeConfig) { c.Out[0].Topics = "a/#/b" }, "out[0].topics: "},
		{"Strip", func(c *mqtt.BridgeConfig) { c.In[0].Strip = "plant2/" }, "in[0].strip: "},
		{"StripLevel", func(c *mqtt.BridgeConfig) { c.In[0].Strip = "plant1/comm" }, "in[0].strip: "},
		{"Prefix", func(c *mqtt.BridgeConfig) { c.Out[0].Prefix = "plant1" }, "out[0].prefix: does not end with /"},
		{"PrefixWildcard", func(c *mqtt.BridgeConfig) { c.Out[0].Prefix = "+/" }, "out[0].prefix: contains a wildcard"},
		{"HalfCertificate", func(c *mqtt.BridgeConfig) { c.TLS.Cert = "/x" }, "tls: "},
		{"TwoPasswords", func(c *mqtt.BridgeConfig) { c.Credentials.Password, c.Credentials.PasswordFile = "a", "b" }, "credentials.passwordFile: "},
		{"SameRule", func(c *mqtt.BridgeConfig) { c.Out = append(c.Out, outRule("sensors/#", "", "x/")) }, "out[1].name: is used twice"},
		{"InOverlap", func(c *mqtt.BridgeConfig) { c.In = append(c.In, inRule("plant1/+/gw17/stop", "", "")) }, "in[1].filter: overlaps in[0]"},
		{"Shared", func(c *mqtt.BridgeConfig) { c.In[0].Filter, c.In[0].Strip = "$share/g/x", "" }, "in[0].filter: is a shared subscription"},
		{"Loop", func(c *mqtt.BridgeConfig) { c.In = append(c.In, inRule("plant1/gw17/#", "plant1/gw17/", "")) }, "out[0].topics: goes to plant1/gw17/sensors/#"},
		{"LoopByWildcard", func(c *mqtt.BridgeConfig) { c.In[0] = inRule("+/+/sensors/x", "", "") }, "out[0].topics: goes to"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := good()
			c.change(&cfg)
			got := faultsOf(cfg)
			if !slices.ContainsFunc(got, func(f string) bool { return strings.HasPrefix(f, c.want) }) {
				t.Errorf("faults %q, want one that begins with %q", got, c.want)
			}
			if strings.Contains(strings.Join(got, "\n"), "hunter2") {
				t.Errorf("a password in %q", got)
			}
		})
	}
}

func TestValidateBridges(t *testing.T) {
	a, b := bridgeConfig("a", "mqtt://broker:1883"), bridgeConfig("b", "mqtts://broker:8883")
	a.Out = []mqtt.OutRule{outRule("sensors/#", "", "up/")}
	b.In = []mqtt.InRule{inRule("up/#", "up/", "")}
	var got []string
	report := func(field, _, problem, _ string) { got = append(got, field+": "+problem) }
	mqtt.ValidateBridges([]mqtt.BridgeConfig{a, b}, report)
	if len(got) != 1 || !strings.HasPrefix(got[0], "[0].out[0].topics: goes to up/sensors/#") {
		t.Errorf("faults %q", got)
	}
	got, b.Broker = nil, "mqtt://other"
	if mqtt.ValidateBridges([]mqtt.BridgeConfig{a, b}, report); len(got) > 0 {
		t.Errorf("different brokers are no loop: %q", got)
	}
}

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]string{
		"mqtt://h": "h:1883", "tcp://h:1": "h:1", "mqtts://h": "h:8883", "ssl://h": "h:8883", "tls://h": "h:8883", "tcps://h": "h:8883",
		"ws://h/mqtt": "h:80", "wss://h/mqtt": "h:443", "mqtt://[::1]": "[::1]:1883", "unix:///run/b.sock": "/run/b.sock", "mqtt://u:p@h:2": "h:2",
	} {
		if _, got, err := mqtt.ParseURL(raw); err != nil || got != want {
			t.Errorf("%s: %q, %v", raw, got, err)
		}
	}
	for _, raw := range []string{"", "h:1883", "mqtt://", "ftp://h", "unix://", "://"} {
		if _, _, err := mqtt.ParseURL(raw); err == nil {
			t.Errorf("%q is accepted", raw)
		}
	}
}

func TestFullJitter(t *testing.T) {
	var high time.Duration
	for attempt := range 64 {
		for range 50 {
			d := mqtt.FullJitter(time.Second, time.Minute, attempt)
			if d <= 0 || d > min(time.Minute, time.Second<<min(attempt, 10))+1 {
				t.Fatalf("attempt %d waits %v", attempt, d)
			}
			high = max(high, d)
		}
	}
	if high < 45*time.Second {
		t.Errorf("never waits longer than %v", high)
	}
}

func TestBridgeConfig_Decode(t *testing.T) {
	type file struct {
		Bridges []mqtt.BridgeConfig `yaml:"bridges"`
	}
	text := `bridges:
  - name: plant
    broker: mqtts://broker.plant:8883
    credentials: {username: gw17, passwordFile: /run/credentials/plant}
    tls: {ca: /etc/edged/ca.pem, serverName: broker}
    out: [{topics: "sensors/#", prefix: "plant1/gw17/", qos: 0, retain: true}, {topics: "alarms/#", payload: raw}]
    in:  [{filter: "plant1/commands/gw17/#", strip: "plant1/commands/gw17/"}]
`
	var f file
	if faults := resource.DecodeStrict("edged.yaml", []byte(text), &f); len(faults) > 0 {
		t.Fatal(faults)
	}
	b := f.Bridges[0]
	if b.PubSub != "pubsub" || b.MaxInflight != 50 || b.MaxPayload != 4<<20 || b.KeepAlive != 30*time.Second || b.HopLimit != 8 {
		t.Errorf("defaults are missing: %+v", b)
	}
	if b.Out[0].QoS != 0 || b.Out[1].QoS != 1 || b.Out[0].Payload != mqtt.PayloadCloudEvent || b.In[0].QoS != 1 || b.In[0].Payload != mqtt.PayloadAuto {
		t.Errorf("rules: %+v %+v", b.Out, b.In)
	}
	text = strings.NewReplacer("qos: 0", "qos: 5", "serverName", "servername", "prefix: \"plant1/gw17/\"", "prefix: \"plant1/commands/gw17/\"").Replace(text)
	faults := resource.DecodeStrict("edged.yaml", []byte(text), &file{})
	for _, want := range []string{
		"edged.yaml:5: bridges[0].tls.servername", "edged.yaml:6: bridges[0].out[0].qos: \"5\": is not a quality of service",
		"edged.yaml:6: bridges[0].out[0].topics: \"sensors/#\": goes to plant1/commands/gw17/sensors/#",
	} {
		if !strings.Contains(faults.Error(), want) {
			t.Errorf("no fault %q in\n%v", want, faults)
		}
	}
}
