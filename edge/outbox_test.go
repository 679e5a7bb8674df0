package edge_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/state"
)

// outboxStore is the default store with an outbox to the topic that fakeApp reads.
const outboxStore = `apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: orders}
spec:
  type: state.bbolt
  version: v1
  metadata:
  - {name: outboxPublishPubsub, value: pubsub}
  - {name: outboxPublishTopic, value: numbers}
`

func TestRuntime_Outbox(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "orders.yaml"), []byte(outboxStore), 0o600); err != nil {
		t.Fatal(err)
	}
	address, got := fakeApp(t)
	c, _ := startRuntime(t, folder, time.Now, address, folder)
	transact := func(body string, want int) {
		t.Helper()
		if status, answer := request(t, c, "POST", "/v1.0/state/orders/transaction", body); status != want {
			t.Errorf("transaction: %d %s", status, answer)
		}
	}
	transact(`{"operations":[{"operation":"upsert","request":{"key":"a","value":"1"}}]}`, 204)
	expect(t, got, `"1"`)

	// What is refused is not published; what comes after it is.
	transact(`{"operations":[{"operation":"upsert","request":{"key":"a","value":"2","etag":"999999","options":{"concurrency":"first-write"}}}]}`, 500)
	transact(`{"operations":[{"operation":"delete","request":{"key":"a"}}]}`, 204)
	transact(`{"operations":[
		{"operation":"upsert","request":{"key":"b","value":"stored"}},
		{"operation":"upsert","request":{"key":"b","value":{"told":true},"metadata":{"outbox.projection":"true"}}}]}`, 204)
	expect(t, got, `{"told":true}`)
	if status, body := request(t, c, "GET", "/v1.0/state/orders/b", ""); status != 200 || body != `"stored"` {
		t.Errorf("the projection was stored: %d %s", status, body)
	}
	if _, body := request(t, c, "GET", "/v1.0/state/orders/a", ""); body != "" {
		t.Errorf("not deleted: %s", body)
	}
}

func TestOutboxOf(t *testing.T) {
	for _, c := range []struct {
		properties map[string]string
		want       state.OutboxTarget
		ok         bool
	}{
		{map[string]string{"outboxPublishPubsub": "p", "outboxPublishTopic": "t"}, state.OutboxTarget{Store: "s", PubSub: "p", Topic: "t", Via: "p"}, true},
		{map[string]string{"outboxPublishPubsub": "p", "outboxPublishTopic": "t", "outboxPubsub": "v", "outboxDiscardWhenMissingState": "TRUE"},
			state.OutboxTarget{Store: "s", PubSub: "p", Topic: "t", Via: "v", DiscardMissing: true}, true},
		{map[string]string{"outboxPublishPubsub": "p"}, state.OutboxTarget{Store: "s", PubSub: "p", Via: "p"}, false},
	} {
		got, ok := state.OutboxOf(component.Spec{Name: "s", Properties: c.properties})
		if got != c.want || ok != c.ok {
			t.Errorf("OutboxOf(%v) = %+v, %v", c.properties, got, ok)
		}
	}
}
