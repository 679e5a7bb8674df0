package httpapi_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/edged-io/edged/edge/apitest"
	"github.com/edged-io/edged/edge/httpapi"
)

// recorded is a call and what daprd 1.18.2 answered. testdata/daprd.json was recorded from three running daprd: "full"
// with state.in-memory, pubsub.in-memory (one with publishing scopes) and secretstores.local.file, "bare" without any
// component, "tok" with an API token, allowed origins and a body limit of 1 KiB.
type recorded struct {
	On     string            `json:"on"`
	Call   string            `json:"call"`
	Header map[string]string `json:"header"`
	Body   string            `json:"body"`
	Status int               `json:"status"`
	Got    map[string]string `json:"got"`
	Answer string            `json:"answer"`
}

// differs says where edged's answer is meant to differ from daprd's, and how far it still agrees.
type differs struct {
	why     string
	call    string // prefix of "METHOD path body"
	status  int    // 0: the same
	message bool   // the message's wording is free, its errorCode is not
	any     bool   // the answer's body is free
}

var deliberate = []differs{
	{why: "our store words a lost race itself", call: `DELETE /v1.0/state/mystore/missing`, message: true},
	{why: "our store words a lost race itself", call: `DELETE /v1.0/state/mystore/k2`, message: true},
	{why: "our store words a lost race itself", call: `POST /v1.0/state/mystore [{"key":"k1"`, message: true},
	{why: "our store words a lost race itself", call: `POST /v1.0/state/mystore [{"key":"k3"`, message: true},
	{why: "our store words a lost race itself", call: `POST /v1.0/state/mystore/transaction {"operations":[{"operation":"upsert","request":{"key":"t1","value":"v","etag"`, message: true},
	{why: "stored JSON keeps its order and its numbers", call: `GET /v1.0/state/mystore/k1`, any: true},
	{why: "the field violation names the key, which daprd loses", call: `POST /v1.0/state/mystore/transaction {"operations":[{"operation":"upsert","request":{"key":"t||1"`, any: true},
	{why: "wording of a type error", call: `POST /v1.0/state/mystore/transaction {"operations":[{"operation":"upsert","request":{"key":5`, message: true},
	{why: "wording of a type error", call: `POST /v1.0/state/mystore/transaction {"operations":[{"operation":"upsert","request":"str"`, message: true},
	{why: "wording of a type error", call: `POST /v1.0/state/mystore/transaction {"operations":[{"operation":"upsert","request":{"key":"t3","value":"v","metadata":{"ttlInSeconds":5`, message: true},
	{why: "wording of a syntax error", call: `POST /v1.0-alpha1/`, message: true},
	{why: "wording of a syntax error", call: `POST /v1.0-alpha2/`, message: true},
	{why: "wording of a syntax error in the details", call: `POST /v1.0/publish/mypubsub/topic {"}`, any: true},
	{why: "how the target could not be found", call: `GET /v1.0/invoke/`, message: true},
	{why: "how the target could not be found", call: `POST /v1.0/invoke/`, message: true},
	{why: "how the target could not be found", call: `GET /foo`, message: true},
	{why: "how the target could not be found", call: `GET /v1.0/nope`, message: true},
	{why: "too large a body is 413", call: `PUT /v1.0/metadata/big`, status: 413, message: true},
	{why: "too large a body is 413, before the component is looked up", call: `POST /v1.0/state/mystore BIG`, status: 413, any: true},
	{why: "too large a body is 413, before the component is looked up", call: `POST /v1.0/publish/p/t BIG`, status: 413, any: true},
}

func TestAPI_AsDaprd(t *testing.T) {
	data, err := os.ReadFile("testdata/daprd.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []recorded
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	handlers := map[string]http.Handler{"full": full(t), "bare": bare(), "tok": withToken()}
	for _, c := range cases {
		t.Run(c.On+" "+c.Call, func(t *testing.T) { replay(t, handlers[c.On], c) })
	}
}

func replay(t *testing.T, h http.Handler, c recorded) {
	body := c.Body
	if body == "BIG2000" {
		body = strings.Repeat("x", 2000)
	}
	method, path, _ := strings.Cut(c.Call, " ")
	r := httptest.NewRequest(method, "http://x"+path, strings.NewReader(body))
	for k, v := range c.Header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	got := w.Result()
	answer, _ := io.ReadAll(got.Body)
	if method == http.MethodHead {
		answer = nil // net/http leaves it out
	}
	d := deliberately(c)
	want := c.Status
	if d.status != 0 {
		want = d.status
	}
	if got.StatusCode != want {
		t.Errorf("status %d, daprd %d; answer %s", got.StatusCode, want, answer)
	}
	sameHeaders(t, got.Header, c)
	if !d.any {
		sameAnswer(t, string(answer), c.Answer, d.message)
	}
}

func deliberately(c recorded) differs {
	for _, d := range deliberate {
		if strings.HasPrefix(strings.TrimSpace(c.Call+" "+c.Body), d.call) {
			return d
		}
	}
	return differs{}
}

func sameHeaders(t *testing.T, got http.Header, c recorded) {
	t.Helper()
	for name, want := range c.Got {
		have := strings.Join(got.Values(name), "|")
		if strings.HasPrefix(want, "<") && have != "" {
			continue
		}
		if have != want {
			t.Errorf("header %s: %q, daprd %q", name, have, want)
		}
	}
	for _, name := range []string{"Vary", "Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers"} {
		if _, ok := c.Got[name]; !ok && got.Get(name) != "" {
			t.Errorf("header %s: %q, daprd has none", name, got.Get(name))
		}
	}
	if c.Answer != "" && c.Got["Content-Type"] == "" && got.Get("Content-Type") != "application/json" {
		t.Errorf("content type %q", got.Get("Content-Type"))
	}
}

var (
	etags = regexp.MustCompile(`"etag":"[^"]*"`)
	times = regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
)

func sameAnswer(t *testing.T, got, want string, freeWording bool) {
	t.Helper()
	got = times.ReplaceAllString(etags.ReplaceAllString(got, `"etag":"<etag>"`), "<time>")
	if got == want {
		return
	}
	var g, w any
	if json.Unmarshal([]byte(got), &g) != nil || json.Unmarshal([]byte(want), &w) != nil {
		t.Errorf("got   %s\ndaprd %s", got, want)
		return
	}
	if freeWording {
		for _, v := range []any{g, w} {
			if m, ok := v.(map[string]any); ok {
				delete(m, "message")
			}
		}
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("got   %s\ndaprd %s", got, want)
	}
}

func options(s *apitest.Services) httpapi.Options {
	return httpapi.Options{
		AppID: apitest.App, Namespace: "default",
		State: s.State, PubSub: s.PubSub, Secrets: s.Secrets, Metadata: s.Metadata, Invoke: s.Invoke,
	}
}

func bare() http.Handler { return httpapi.New(options(apitest.Bare())) }

func withToken() http.Handler {
	o := options(apitest.Bare())
	o.APIToken, o.AllowedOrigins, o.MaxBodySize = "tok", "https://example.com", 1024
	return httpapi.New(o)
}

func full(t testing.TB) http.Handler { return httpapi.New(options(apitest.Full(t))) }
