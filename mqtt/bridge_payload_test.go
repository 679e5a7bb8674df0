package mqtt_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/mqtt"
)

func TestBridge_In_Payloads(t *testing.T) {
	m := startMosquitto(t)
	local := newLocal(t)
	cfg := bridgeConfig("plant", m.url())
	cfg.HopLimit = 3
	strict := inRule("strict/#", "", "")
	strict.Payload = mqtt.PayloadCloudEvent
	opaque := inRule("opaque/#", "", "")
	opaque.Payload = mqtt.PayloadRaw
	cfg.In = []mqtt.InRule{inRule("auto/#", "auto/", "in/"), strict, opaque}
	b, _ := runBridge(t, cfg, local)
	var mu sync.Mutex
	got := map[string]pubsub.Event{}
	consume(t, local, "#", func(e pubsub.Event) {
		mu.Lock()
		defer mu.Unlock()
		got[e.Topic] = e
	})
	connected(t, b)
	c := rawClient(t, m.url(), "plant")
	ce := `{ "specversion":"1.0","id":"1","source":"s","type":"t","data":{"x": 1} }`
	for topic, payload := range map[string]string{
		"auto/event": ce, "auto/json": `{"t": 21.5}`, "auto/text": "21,5 °C", "auto/binary": "\xff\x00", "auto/empty": "", "auto": "no name",
		"auto/hops": strings.Replace(ce, "{", `{"edgedvia":"x,y,z",`, 1), "auto/mine": strings.Replace(ce, "{", `{"edgedvia":"x,gw17",`, 1),
		"strict/event": ce, "strict/json": "{}", "opaque/event": ce,
	} {
		publish(t, c, topic, []byte(payload))
	}
	publish(t, c, "auto/last", []byte(`"end"`))
	eventually(t, 10*time.Second, "the last message", func() bool {
		mu.Lock()
		defer mu.Unlock()
		_, ok := got["in/last"]
		return ok
	})
	mu.Lock()
	defer mu.Unlock()
	if string(got["in/event"].Data) != ce || string(got["strict/event"].Data) != ce {
		t.Errorf("a CloudEvent was changed: %s", got["in/event"].Data)
	}
	for topic, want := range map[string]string{
		"in/json": `"datacontenttype":"application/json","data":{"t":21.5}`, "in/text": `"datacontenttype":"text/plain","data":"21,5 °C"`,
		"in/binary": `"data_base64":"/wA="`, "in/empty": `"datacontenttype":"text/plain","data":""`, "opaque/event": `"data":{"specversion":"1.0"`,
	} {
		if e := got[topic]; !strings.Contains(string(e.Data), want) || e.ContentType != "application/cloudevents+json" {
			t.Errorf("%s: %s has no %s", topic, e.Data, want)
		}
	}
	want := map[string]uint64{mqtt.CauseTopic: 1, mqtt.CauseHops: 1, mqtt.CauseLoop: 1, mqtt.CauseMalformed: 1}
	if d := b.Status().In.Dropped; fmt.Sprint(d) != fmt.Sprint(want) {
		t.Errorf("dropped %v, want %v", d, want)
	}
}

func TestBridge_Out_Payloads(t *testing.T) {
	m := startMosquitto(t)
	local := newLocal(t)
	cfg := bridgeConfig("plant", m.url())
	raw := rawOut("#", "", "raw/")
	raw.Name, raw.Retain = "raw", true
	cfg.Out = []mqtt.OutRule{outRule("#", "", "event/"), raw}
	b, _ := runBridge(t, cfg, local)
	connected(t, b)
	var mu sync.Mutex
	got := map[string]string{}
	c := rawClient(t, m.url(), "watcher")
	subscribe(t, c, "#", func(m paho.Message) {
		mu.Lock()
		defer mu.Unlock()
		got[m.Topic()] = string(m.Payload())
	})
	event := func(fields string) []byte {
		return []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t",` + fields + `}`)
	}
	for topic, e := range map[string]pubsub.Event{
		"json": {Data: event(`"data":{"a": 1}`)}, "text": {Data: event(`"datacontenttype":"text/plain","data":"hi"`)},
		"base64": {Data: event(`"datacontenttype":"application/octet-stream","data_base64":"/wA="`)},
		"string": {Data: event(`"datacontenttype":"application/json","data":"hi"`)},
		"plain":  {Data: []byte("21.5"), ContentType: "text/plain"}, "broken": {Data: []byte("{")}, "bad+topic": {Data: event(`"data":1`)},
		"end": {Data: event(`"data":1`)},
	} {
		if e.Topic = topic; e.ContentType == "" {
			e.ContentType = "application/cloudevents+json"
		}
		if err := local.Publish(t.Context(), []pubsub.Event{e}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 10*time.Second, "the events", func() bool {
		s := b.Status().Out
		return s.Handled == 12 && s.Dropped[mqtt.CauseTopic] == 2
	})
	eventually(t, 10*time.Second, "the messages", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == 12+1 // and the birth
	})
	mu.Lock()
	defer mu.Unlock()
	for topic, want := range map[string]string{
		"raw/json": `{"a": 1}`, "raw/text": "hi", "raw/base64": "\xff\x00", "raw/string": `"hi"`, "raw/plain": "21.5",
		"event/json": `{"edgedvia":"gw17","specversion":"1.0","id":"1","source":"s","type":"t","data":{"a": 1}}`,
	} {
		if got[topic] != want {
			t.Errorf("%s: %q, want %q", topic, got[topic], want)
		}
	}
	if !strings.Contains(got["event/plain"], `"data":21.5`) {
		t.Errorf("a raw event is not wrapped: %s", got["event/plain"])
	}
	if d := b.Status().Out.Dropped; d[mqtt.CauseMalformed] != 2 {
		t.Errorf("dropped %v", d)
	}
}
