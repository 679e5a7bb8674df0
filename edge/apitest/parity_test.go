package apitest_test

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/edged-io/edged/edge/apitest"
)

// outcome is what a call came to, whatever carried it.
type outcome struct {
	Code, Category string // as counted; empty: it succeeded
	Message        string
	Details        []map[string]string
	Answer         any
}

// item is a write, or an operation of a transaction.
type item struct {
	Key, Value, ETag, Operation string // Value is JSON
	Concurrency                 string
	Metadata                    map[string]string
}

// transport makes the calls that both APIs have.
type transport interface {
	get(store, key string) outcome
	save(store string, items ...item) outcome
	remove(store string, i item) outcome
	bulkGet(store string, keys ...string) outcome
	transact(store string, items ...item) outcome
	query(store, query string) outcome
	publish(pubsub, topic, contentType, data string, metadata map[string]string) outcome
	bulkPublish(pubsub, topic string, ids ...string) outcome
	secret(store, key string) outcome
	secrets(store string) outcome
	metadata() outcome
	setMetadata(key, value string) outcome
}

// parity are calls that must come to the same over HTTP and gRPC. What Dapr's two APIs say differently is named.
var parity = []struct {
	name    string
	call    func(t transport) outcome
	differs string // message, code, metadata
}{
	{name: "save", call: func(t transport) outcome { return t.save("mystore", item{Key: "a", Value: `"1"`}) }},
	{name: "get", call: func(t transport) outcome { return t.get("mystore", "a") }},
	{name: "get absent", call: func(t transport) outcome { return t.get("mystore", "absent") }},
	{name: "get odd key", call: func(t transport) outcome {
		t.save("mystore", item{Key: "a/b c+d%&?#ü", Value: `{"x":[1,2.50,"<&>"]}`})
		return t.get("mystore", "a/b c+d%&?#ü")
	}},
	{name: "get illegal key", call: func(t transport) outcome { return t.get("mystore", "a||b") }, differs: "message"},
	{name: "get unknown store", call: func(t transport) outcome { return t.get("nostore", "a") }, differs: "metadata"},
	{name: "save nothing", call: func(t transport) outcome { return t.save("mystore") }},
	{name: "save empty key", call: func(t transport) outcome { return t.save("mystore", item{Value: "1"}) }, differs: "code"},
	{name: "save illegal key", call: func(t transport) outcome { return t.save("mystore", item{Key: "a||b", Value: "1"}) }, differs: "message"},
	{name: "save unknown store", call: func(t transport) outcome { return t.save("nostore", item{Key: "a", Value: "1"}) }, differs: "metadata"},
	{name: "save bad ttl", call: func(t transport) outcome {
		return t.save("mystore", item{Key: "a", Value: "1", Metadata: map[string]string{"ttlInSeconds": "x"}})
	}, differs: "details"},
	{name: "save and get ttl", call: func(t transport) outcome {
		t.save("mystore", item{Key: "ttl", Value: "1", Metadata: map[string]string{"ttlInSeconds": "100"}})
		return t.get("mystore", "ttl")
	}},
	{name: "save wrong etag", call: func(t transport) outcome { return t.save("mystore", item{Key: "a", Value: "1", ETag: "999999"}) }, differs: "details"},
	{name: "save first-write over a value", call: func(t transport) outcome {
		return t.save("mystore", item{Key: "a", Value: "1", Concurrency: "first-write"})
	}, differs: "details"},
	{name: "save several, one wrong etag", call: func(t transport) outcome {
		return t.save("mystore", item{Key: "m1", Value: "1"}, item{Key: "a", Value: "2", ETag: "999999"})
	}, differs: "details"},
	{name: "the others of several stay", call: func(t transport) outcome { return t.get("mystore", "m1") }},
	{name: "remove", call: func(t transport) outcome { return t.remove("mystore", item{Key: "m1"}) }},
	{name: "removed", call: func(t transport) outcome { return t.get("mystore", "m1") }},
	{name: "remove absent", call: func(t transport) outcome { return t.remove("mystore", item{Key: "absent"}) }},
	{name: "remove wrong etag", call: func(t transport) outcome { return t.remove("mystore", item{Key: "a", ETag: "999999"}) }, differs: "details"},
	{name: "remove illegal key", call: func(t transport) outcome { return t.remove("mystore", item{Key: "a||b"}) }, differs: "message"},
	{name: "bulk get", call: func(t transport) outcome { return t.bulkGet("mystore", "a", "absent", "ttl") }},
	{name: "bulk get nothing", call: func(t transport) outcome { return t.bulkGet("mystore") }},
	{name: "bulk get illegal key", call: func(t transport) outcome { return t.bulkGet("mystore", "a||b") }, differs: "message"},
	{name: "bulk get unknown store", call: func(t transport) outcome { return t.bulkGet("nostore", "a") }, differs: "metadata"},
	{name: "transact", call: func(t transport) outcome {
		return t.transact("mystore", item{Operation: "upsert", Key: "t", Value: `{"t":1}`}, item{Operation: "delete", Key: "a"})
	}},
	{name: "transacted", call: func(t transport) outcome { return t.bulkGet("mystore", "t", "a") }},
	{name: "transact wrong etag", call: func(t transport) outcome {
		return t.transact("mystore", item{Operation: "upsert", Key: "u", Value: "1"}, item{Operation: "upsert", Key: "t", Value: "2", ETag: "999999"})
	}, differs: "details"},
	{name: "nothing of it stays", call: func(t transport) outcome { return t.get("mystore", "u") }},
	{name: "transact nothing", call: func(t transport) outcome { return t.transact("mystore") }},
	{name: "transact odd operation", call: func(t transport) outcome { return t.transact("mystore", item{Operation: "frob", Key: "t", Value: "1"}) }, differs: "details"},
	{name: "transact illegal key", call: func(t transport) outcome {
		return t.transact("mystore", item{Operation: "upsert", Key: "a||b", Value: "1"})
	}, differs: "message"},
	{name: "transact unknown store", call: func(t transport) outcome { return t.transact("nostore", item{Operation: "frob", Key: "t", Value: "1"}) }, differs: "metadata"},
	{name: "query unsupported", call: func(t transport) outcome { return t.query("mystore", `{"filter":{}}`) }},
	{name: "query unknown store", call: func(t transport) outcome { return t.query("nostore", `{}`) }},
	{name: "publish", call: func(t transport) outcome { return t.publish("mypubsub", "t", "text/plain", "x", nil) }},
	{name: "publish to a topic with slashes", call: func(t transport) outcome {
		return t.publish("mypubsub", "a/b/c", "application/json", "{}", map[string]string{"ttlInSeconds": "5"})
	}},
	{name: "publish raw", call: func(t transport) outcome {
		return t.publish("mypubsub", "t", "", "x", map[string]string{"rawPayload": "true"})
	}},
	{name: "publish unknown component", call: func(t transport) outcome { return t.publish("nopubsub", "t", "", "x", nil) }, differs: "metadata"},
	{name: "publish bad metadata", call: func(t transport) outcome {
		return t.publish("mypubsub", "t", "", "x", map[string]string{"rawPayload": "maybe"})
	}},
	{name: "publish no CloudEvent", call: func(t transport) outcome {
		return t.publish("mypubsub", "t", "application/cloudevents+json", "x", nil)
	}},
	{name: "publish forbidden", call: func(t transport) outcome { return t.publish("scoped", "t", "", "x", nil) }},
	{name: "publish allowed", call: func(t transport) outcome { return t.publish("scoped", "ok", "", "x", nil) }},
	{name: "bulk publish", call: func(t transport) outcome { return t.bulkPublish("mypubsub", "t", "1", "2") }},
	{name: "bulk publish nothing", call: func(t transport) outcome { return t.bulkPublish("mypubsub", "t") }},
	{name: "bulk publish same id", call: func(t transport) outcome { return t.bulkPublish("mypubsub", "t", "1", "1") }},
	{name: "bulk publish no id", call: func(t transport) outcome { return t.bulkPublish("mypubsub", "t", "") }},
	{name: "bulk publish forbidden", call: func(t transport) outcome { return t.bulkPublish("scoped", "t", "1") }},
	{name: "bulk publish unknown component", call: func(t transport) outcome { return t.bulkPublish("nopubsub", "t", "1") }, differs: "metadata"},
	{name: "secret", call: func(t transport) outcome { return t.secret("mysecrets", "key1") }},
	{name: "secret nested", call: func(t transport) outcome { return t.secret("mysecrets", "nested:a") }},
	{name: "secret absent", call: func(t transport) outcome { return t.secret("mysecrets", "absent") }},
	{name: "secret denied", call: func(t transport) outcome { return t.secret("mysecrets", "denied") }},
	{name: "secret unknown store", call: func(t transport) outcome { return t.secret("nosecrets", "key1") }},
	{name: "secrets", call: func(t transport) outcome { return t.secrets("mysecrets") }},
	{name: "secrets unknown store", call: func(t transport) outcome { return t.secrets("nosecrets") }},
	{name: "set metadata", call: func(t transport) outcome { return t.setMetadata("a b", "c/d") }},
	{name: "metadata", call: func(t transport) outcome { return t.metadata() }},
}

func TestParity(t *testing.T) {
	for where, services := range map[string]func() *apitest.Services{
		"full": func() *apitest.Services { return apitest.Full(t) },
		"bare": apitest.Bare,
	} {
		// Each transport has services of its own, made alike, so that writes through one do not show in the other.
		overHTTP, overGRPC := newHTTP(t, services()), newGRPC(t, services())
		for _, p := range parity {
			t.Run(where+" "+p.name, func(t *testing.T) {
				agree(t, p.call(overHTTP), p.call(overGRPC), p.differs)
			})
		}
	}
}

// revisions are ETags that a message names; they differ from store to store.
var revisions = regexp.MustCompile(`\d{9,}`)

func agree(t *testing.T, a, b outcome, differs string) {
	t.Helper()
	if (a.Code == "") != (b.Code == "") {
		t.Fatalf("HTTP %+v\ngRPC %+v", a, b)
	}
	if a.Code == "ERR_STATE_STORE_NOT_CONFIGURED" || a.Code == "ERR_PUBSUB_NOT_FOUND" {
		differs = "metadata" // whatever else is wrong with the call
	}
	switch differs {
	case "code": // the same refusal in other words
		a.Code, a.Category, a.Message, a.Details = b.Code, b.Category, b.Message, b.Details
	case "message": // HTTP wraps it once more
		a.Message = strings.TrimPrefix(a.Message, "api error: code = InvalidArgument desc = ")
		a.Details, b.Details = nil, nil
	case "details": // over gRPC only
		if len(a.Details) > 0 || a.Code != "" && len(b.Details) != 1 {
			t.Errorf("HTTP details %v, gRPC %v", a.Details, b.Details)
		}
		b.Details = nil
	case "metadata": // HTTP names the application or the request's metadata
		for _, d := range append(a.Details, b.Details...) {
			delete(d, "metadata")
		}
	}
	a.Message, b.Message = revisions.ReplaceAllString(a.Message, "n"), revisions.ReplaceAllString(b.Message, "n")
	if !reflect.DeepEqual(a, b) {
		t.Errorf("HTTP %+v\ngRPC %+v", a, b)
	}
}

// errs notes the last error that an API counted.
type errs struct{ code, category string }

func (e *errs) count(code, category string) { e.code, e.category = code, category }

func (e *errs) take() (code, category string) {
	code, category = e.code, e.category
	*e = errs{}
	return code, category
}

// TestParity_Stored checks that what one API stored, the other reads.
func TestParity_Stored(t *testing.T) {
	s := apitest.Full(t)
	h, g := newHTTP(t, s), newGRPC(t, s)
	for i, value := range []string{`"text"`, `{"a":[1,2.5,null]}`, `12345678901234567890`, `"<&>ü\u2028"`, `null`} {
		for name, pair := range map[string][2]transport{"HTTP to gRPC": {h, g}, "gRPC to HTTP": {g, h}} {
			key := fmt.Sprint(name, i)
			if out := pair[0].save("mystore", item{Key: key, Value: value}); out.Code != "" {
				t.Fatal(out)
			}
			if out := pair[1].get("mystore", key); out.Answer != value {
				t.Errorf("%s: stored %s, read %v", name, value, out.Answer)
			}
		}
	}
	if out := g.save("mystore", item{Key: "bytes", Value: "no \xffJSON"}); out.Code != "" {
		t.Fatal(out)
	}
	out := h.bulkGet("mystore", "bytes") // bytes that are no JSON are a string there
	if reads := out.Answer.([]read); !bytes.Contains([]byte(reads[0].Data), []byte("JSON")) {
		t.Fatal(reads)
	}
}
