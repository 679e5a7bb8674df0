package hub_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/edged-io/edged/edge/resource"
	"github.com/edged-io/edged/hub"
)

func config(t *testing.T) hub.Config {
	cfg := hub.DefaultConfig()
	cfg.Data = filepath.Join(t.TempDir(), "data")
	cfg.Listen = hub.ListenConfig{NATS: "127.0.0.1:0", WebSocket: "127.0.0.1:0"}
	return cfg
}

func open(t *testing.T, cfg hub.Config) *hub.Hub {
	t.Helper()
	h, err := hub.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func connect(t *testing.T, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func write(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestOpen_Defaults(t *testing.T) {
	cfg := config(t)
	h := open(t, cfg)
	for _, url := range []string{h.ClientURL(), h.WebSocketURL()} {
		js, err := jetstream.New(connect(t, url))
		if err != nil {
			t.Fatal(err)
		}
		s, err := js.Stream(t.Context(), "EDGED_EV")
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		c := s.CachedInfo().Config
		if !c.AllowAtomicPublish || !c.AllowDirect || c.Retention != jetstream.LimitsPolicy {
			t.Errorf("stream: %+v", c)
		}
		kv, err := js.KeyValue(t.Context(), "edged")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.PutString(t.Context(), "dev.app.key", "value"); err != nil {
			t.Fatal(err)
		}
	}
	h.Close()
	h.Close()
	again := open(t, func() hub.Config { cfg.Events.MaxAge = time.Hour; return cfg }())
	js, err := jetstream.New(connect(t, again.ClientURL()))
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), "edged")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(t.Context(), "dev.app.key"); err != nil || string(e.Value()) != "value" {
		t.Errorf("after a restart: %v %v", e, err)
	}
	s, err := js.Stream(t.Context(), "EDGED_EV")
	if err != nil || s.CachedInfo().Config.MaxAge != time.Hour {
		t.Errorf("the changed configuration is not in force: %v %v", s, err)
	}
}

func TestOpen_Refused(t *testing.T) {
	cfg := config(t)
	open(t, cfg)
	_, err := hub.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint("in use by another edged-hub (process ", os.Getpid())) {
		t.Errorf("a folder in use: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := config(t)
	taken.Listen.NATS = l.Addr().String()
	if _, err = hub.Open(t.Context(), taken, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "listen for nats") {
		t.Errorf("a port in use: %v", err)
	}
}

func TestConfig_Validate(t *testing.T) {
	for text, want := range map[string]string{
		"listen: {nats: '0.0.0.0:4222'}":                      "no credentials",
		"listen: {nats: ''}":                                  "needs its NATS listener",
		"listen: {websocket: '0.0.0.0:443'}\ndevices: d.yaml": "clear text",
		"listen: {monitor: '0.0.0.0:8222'}\ndevices: d.yaml":  "monitoring shows every subject",
		"listen: {nats: 4222}":                                "is not host:port",
		"tls: {cert: a.pem}":                                  "not both",
		"events: {stream: 'a.b'}":                             "is not a stream name",
		"state: {history: 65}":                                "1 to 64",
		"maxPayload: 1KiB":                                    "out of range",
		"strange: 1":                                          "strange",
	} {
		cfg := hub.DefaultConfig()
		faults := resource.DecodeStrict("hub.yaml", []byte(text), &cfg)
		if len(faults) != 1 || !strings.Contains(faults.Error(), want) {
			t.Errorf("%s: %v, want %q", text, faults, want)
		}
	}
}

func TestAccounts_Validate(t *testing.T) {
	for text, want := range map[string]string{
		"devices: [{id: A.b, token: x}]":                                   "is not an id",
		"devices: [{id: a}]":                                               "exactly one credential",
		"devices: [{id: a, token: x, user: u, password: p}]":               "exactly one credential",
		"devices: [{id: a, user: u}]":                                      "exactly one credential",
		"devices: [{id: a, nkey: SUAIBDPBAUTWCWBKIO6XHQNINK5FWJW4OHLXC3}]": "it begins with U",
		"devices: [{id: a, token: x}, {id: b, token: x}]":                  "repeats a credential or id of devices[0]",
		"devices: [{id: a, token: x}]\nservices: [{id: a, token: y}]":      "repeats a credential or id of devices[0]",
	} {
		_, err := hub.ReadAccounts(write(t, filepath.Join(t.TempDir(), "d.yaml"), text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// secured opens a hub with one device per kind of credential, and a service.
func secured(t *testing.T) (h *hub.Hub, file string, seed nkeys.KeyPair) {
	t.Helper()
	seed, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := seed.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	cfg.Listen.MQTT = "127.0.0.1:0"
	file = write(t, filepath.Join(t.TempDir(), "devices.yaml"), fmt.Sprintf(`
devices:
  - {id: one, token: secret-one}
  - {id: two, user: two, password: secret-two}
  - {id: three, nkey: %s}
services:
  - {id: ledger, token: secret-ledger}
`, public))
	cfg.Devices = file
	return open(t, cfg), file, seed
}

func TestHub_Credentials(t *testing.T) {
	h, _, seed := secured(t)
	public, err := seed.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, opts := range map[string][]nats.Option{
		"none":           nil,
		"wrong token":    {nats.Token("secret-two")},
		"wrong password": {nats.UserInfo("two", "secret-one")},
		"wrong seed":     {nats.Nkey(public, func([]byte) ([]byte, error) { return make([]byte, 64), nil })},
	} {
		if nc, err := nats.Connect(h.ClientURL(), opts...); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v %v", name, nc, err)
		}
	}
	connect(t, h.ClientURL(), nats.Token("secret-one"))
	connect(t, h.WebSocketURL(), nats.UserInfo("two", "secret-two"))
	connect(t, h.ClientURL(), nats.Nkey(public, seed.Sign))
	connect(t, h.ClientURL(), nats.Token("secret-ledger"))
}

func TestHub_DevicesAreKeptApart(t *testing.T) {
	h, _, _ := secured(t)
	errs := make(chan error, 16)
	one := connect(t, h.ClientURL(), nats.Token("secret-one"), nats.CustomInboxPrefix("_INBOX_one"),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }))
	denied := func(what string, try func()) {
		t.Helper()
		try()
		if err := one.Flush(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-errs:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: allowed", what)
		}
	}
	for _, subject := range []string{
		"ev.two.x", "$KV.edged.two.app.key", "$KV.edged._cur.two.state", "$JS.API.STREAM.DELETE.EDGED_EV", "$JS.API.STREAM.PURGE.EDGED_EV",
		"$JS.API.STREAM.MSG.GET.EDGED_EV", "$JS.API.DIRECT.GET.EDGED_EV", "$JS.API.DIRECT.GET.EDGED_EV.ev.two.x", "$JS.API.DIRECT.GET.KV_edged.$KV.edged.two.app.key",
		"$JS.API.CONSUMER.CREATE.EDGED_EV.one.ev.two.>", "$JS.API.CONSUMER.CREATE.EDGED_EV", "$JS.API.CONSUMER.MSG.NEXT.EDGED_EV.two",
		"$JS.API.STREAM.UPDATE.EDGED_EV", "$JS.API.STREAM.NAMES", "free.subject",
	} {
		denied("publish to "+subject, func() { _ = one.Publish(subject, nil) })
	}
	for _, subject := range []string{"ev.>", "$KV.>", "_INBOX.>", "_INBOX_two.>", ">"} {
		denied("subscribe to "+subject, func() { _, _ = one.SubscribeSync(subject) })
	}
	// A consumer whose filter is the device's own in the subject but another's in the body is refused by the server.
	m, err := one.Request("$JS.API.CONSUMER.CREATE.EDGED_EV.one.ev.one.>",
		[]byte(`{"stream_name":"EDGED_EV","config":{"name":"one","ack_policy":"none","filter_subject":"ev.two.>"}}`), 5*time.Second)
	if err != nil || !strings.Contains(string(m.Data), "error") {
		t.Errorf("a foreign filter in the body: %v %s", err, m.Data)
	}
	m, err = one.Request("ev.one.x", []byte("mine"), 5*time.Second)
	if err != nil || !strings.Contains(string(m.Data), "seq") {
		t.Errorf("own event: %v", err)
	}
}

func TestHub_Reload(t *testing.T) {
	h, file, _ := secured(t)
	lost := make(chan string, 2)
	gone := func(name string) nats.Option {
		return nats.DisconnectErrHandler(func(*nats.Conn, error) { lost <- name })
	}
	connect(t, h.ClientURL(), nats.Token("secret-one"), gone("one"), nats.NoReconnect())
	two := connect(t, h.ClientURL(), nats.UserInfo("two", "secret-two"), gone("two"), nats.NoReconnect())
	write(t, file, "devices: [{id: two, user: two, password: secret-two}, {id: four, token: secret-four}]")
	if err := h.Reload(); err != nil {
		t.Fatal(err)
	}
	select {
	case name := <-lost:
		if name != "one" {
			t.Errorf("%s was disconnected", name)
		}
	case <-time.After(5 * time.Second):
		t.Error("the removed device is still connected")
	}
	connect(t, h.ClientURL(), nats.Token("secret-four"))
	if _, err := nats.Connect(h.ClientURL(), nats.Token("secret-one")); err == nil {
		t.Error("the removed device can connect")
	}
	write(t, file, "devices: [{id: Wrong}]")
	if err := h.Reload(); err == nil {
		t.Error("a faulty file was taken")
	}
	if err := two.Flush(); err != nil {
		t.Errorf("a faulty file disconnected a device: %v", err)
	}
}

func TestHub_MQTT(t *testing.T) {
	h, _, _ := secured(t)
	js, err := jetstream.New(connect(t, h.ClientURL(), nats.Token("secret-ledger")))
	if err != nil {
		t.Fatal(err)
	}
	client := func(user, password string) mqtt.Client {
		return mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + h.MQTTAddr()).SetClientID("m").SetUsername(user).SetPassword(password).
			SetConnectRetry(false).SetAutoReconnect(false))
	}
	if token := client("two", "wrong").Connect(); !token.WaitTimeout(5*time.Second) || token.Error() == nil {
		t.Error("a wrong password is accepted")
	}
	c := client("two", "secret-two")
	if token := c.Connect(); !token.WaitTimeout(5*time.Second) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	defer c.Disconnect(0)
	if token := c.Publish("ev/two/from/mqtt", 1, false, "hello"); !token.WaitTimeout(5*time.Second) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	s, err := js.Stream(context.Background(), "EDGED_EV")
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(context.Background(), "ev.two.from.mqtt")
	if err != nil || string(m.Data) != "hello" {
		t.Errorf("%v %v", m, err)
	}
}
