package apitest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/edged-io/edged/edge/apitest"
	"github.com/edged-io/edged/edge/httpapi"
)

type overHTTP struct {
	h    http.Handler
	errs *errs
}

func newHTTP(t *testing.T, s *apitest.Services) *overHTTP {
	t.Helper()
	e := &errs{}
	return &overHTTP{errs: e, h: httpapi.New(httpapi.Options{
		AppID: apitest.App, State: s.State, PubSub: s.PubSub, Secrets: s.Secrets, Metadata: s.Metadata, OnError: e.count,
	})}
}

// do makes a call. answer, if not nil, takes a 200's JSON.
func (o *overHTTP) do(method, path, body string, header map[string]string, answer any) outcome {
	r := httptest.NewRequest(method, "http://x"+path, strings.NewReader(body))
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	o.h.ServeHTTP(w, r)
	var out outcome
	out.Code, out.Category = o.errs.take()
	if w.Code == http.StatusOK && answer != nil {
		if err := json.Unmarshal(w.Body.Bytes(), answer); err != nil {
			panic(err)
		}
	}
	if w.Code < 300 {
		return out
	}
	var e struct {
		ErrorCode, Message string
		Details            []map[string]any
	}
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.ErrorCode != out.Code {
		panic(fmt.Sprintf("%s %s: %d %s counted as %s", method, path, w.Code, w.Body, out.Code))
	}
	out.Message = e.Message
	for _, d := range e.Details {
		flat := map[string]string{}
		for k, v := range d {
			if s := strings.Trim(fmt.Sprint(v), "[]"); s != "" && s != "map" && s != "<nil>" {
				flat[strings.ReplaceAll(strings.TrimPrefix(k, "@"), "_", "")] = s
			}
		}
		flat["type"] = d["@type"].(string)[len("type.googleapis.com/google.rpc."):]
		out.Details = append(out.Details, flat)
	}
	return out
}

func (o *overHTTP) get(store, key string) outcome {
	var value json.RawMessage
	out := o.do("GET", "/v1.0/state/"+store+"/"+url.QueryEscape(key), "", nil, &value)
	out.Answer = string(value)
	return out
}

func (i item) json() string {
	m := map[string]any{"key": i.Key, "value": json.RawMessage(i.Value)}
	if i.Value == "" {
		delete(m, "value")
	}
	if i.ETag != "" {
		m["etag"] = i.ETag
	}
	if i.Concurrency != "" {
		m["options"] = map[string]string{"concurrency": i.Concurrency}
	}
	if i.Metadata != nil {
		m["metadata"] = i.Metadata
	}
	return text(m)
}

func text(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}

func (o *overHTTP) save(store string, items ...item) outcome {
	var list []string
	for _, i := range items {
		list = append(list, i.json())
	}
	return o.do("POST", "/v1.0/state/"+store, "["+strings.Join(list, ",")+"]", nil, nil)
}

func (o *overHTTP) remove(store string, i item) outcome {
	header := map[string]string{}
	if i.ETag != "" {
		header["If-Match"] = i.ETag
	}
	return o.do("DELETE", "/v1.0/state/"+store+"/"+url.QueryEscape(i.Key), "", header, nil)
}

type read struct {
	Key, Data string
	HasETag   bool
	Metadata  []string
}

func (o *overHTTP) bulkGet(store string, keys ...string) outcome {
	var got []struct {
		Key, ETag string
		Data      json.RawMessage
		Metadata  map[string]string
	}
	out := o.do("POST", "/v1.0/state/"+store+"/bulk", text(map[string]any{"keys": keys}), nil, &got)
	reads := []read{}
	for _, g := range got {
		r := read{Key: g.Key, Data: string(g.Data), HasETag: g.ETag != ""}
		for name := range g.Metadata {
			r.Metadata = append(r.Metadata, name)
		}
		reads = append(reads, r)
	}
	out.Answer = reads
	return out
}

func (o *overHTTP) transact(store string, items ...item) outcome {
	var list []string
	for _, i := range items {
		list = append(list, `{"operation":`+text(i.Operation)+`,"request":`+i.json()+`}`)
	}
	return o.do("POST", "/v1.0/state/"+store+"/transaction", `{"operations":[`+strings.Join(list, ",")+"]}", nil, nil)
}

func (o *overHTTP) query(store, query string) outcome {
	return o.do("POST", "/v1.0-alpha1/state/"+store+"/query", query, nil, nil)
}

func params(metadata map[string]string) string {
	q := url.Values{}
	for k, v := range metadata {
		q.Set("metadata."+k, v)
	}
	return "?" + q.Encode()
}

func (o *overHTTP) publish(pubsub, topic, contentType, data string, metadata map[string]string) outcome {
	return o.do("POST", "/v1.0/publish/"+pubsub+"/"+topic+params(metadata), data, map[string]string{"Content-Type": contentType}, nil)
}

func (o *overHTTP) bulkPublish(pubsub, topic string, ids ...string) outcome {
	var list []string
	for _, id := range ids {
		list = append(list, `{"entryId":`+text(id)+`,"event":"x","contentType":"text/plain"}`)
	}
	return o.do("POST", "/v1.0/publish/bulk/"+pubsub+"/"+topic, "["+strings.Join(list, ",")+"]", nil, nil)
}

func (o *overHTTP) secret(store, key string) outcome {
	var got map[string]string
	out := o.do("GET", "/v1.0/secrets/"+store+"/"+key, "", nil, &got)
	out.Answer = got
	return out
}

func (o *overHTTP) secrets(store string) outcome {
	var got map[string]map[string]string
	out := o.do("GET", "/v1.0/secrets/"+store+"/bulk", "", nil, &got)
	out.Answer = got
	return out
}

// report is what both metadata answers say.
type report struct {
	ID, Version, Protocol, Actors, Placement string
	Extended                                 map[string]string
	Components, Subscriptions                []string
}

func (o *overHTTP) metadata() outcome {
	var got struct {
		ID, RuntimeVersion      string
		Extended                map[string]string
		Components              []struct{ Name, Type string }
		Subscriptions           []struct{ PubSubName, Topic, Type string }
		AppConnectionProperties struct{ Protocol string }
		ActorRuntime            struct{ RuntimeStatus, Placement string }
	}
	out := o.do("GET", "/v1.0/metadata", "", nil, &got)
	r := report{
		ID: got.ID, Version: got.RuntimeVersion, Protocol: got.AppConnectionProperties.Protocol,
		Actors: got.ActorRuntime.RuntimeStatus, Placement: got.ActorRuntime.Placement, Extended: got.Extended,
	}
	for _, c := range got.Components {
		r.Components = append(r.Components, c.Name+" "+c.Type)
	}
	for _, s := range got.Subscriptions {
		r.Subscriptions = append(r.Subscriptions, s.PubSubName+" "+s.Topic+" "+s.Type)
	}
	out.Answer = r
	return out
}

func (o *overHTTP) setMetadata(key, value string) outcome {
	return o.do("PUT", "/v1.0/metadata/"+url.PathEscape(key), value, nil, nil)
}
