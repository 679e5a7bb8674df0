package state_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/state"
)

// queryable is an in-memory store that says that it answers queries.
type queryable struct{ *state.Memory }

func (q queryable) Features() []string { return append(q.Memory.Features(), "QUERY_API") }

func queryService(t *testing.T, properties map[string]string) *state.Service {
	t.Helper()
	var set component.Set[state.Store]
	set.Put(component.Instance[state.Store]{
		Spec:  component.Spec{Name: "mystore", Properties: properties},
		Value: queryable{state.NewMemory(state.MemoryOptions{})},
	})
	s := state.NewService(&set, slog.New(slog.DiscardHandler))
	for key, value := range map[string]string{
		"1": `{"person":{"org":"Dev Ops","id":1036},"city":"Seattle","state":"WA"}`,
		"2": `{"person":{"org":"Hardware","id":1028},"city":"Portland","state":"OR"}`,
		"3": `{"person":{"org":"Finance","id":1071},"city":"Sacramento","state":"CA"}`,
		"4": `{"person":{"org":"Dev Ops","id":1042},"city":"Spokane","state":"WA"}`,
		"5": `{"person":{"org":"Hardware","id":1007},"city":"Los Angeles","state":"CA"}`,
		"6": `not JSON`,
		"7": `"a text"`,
	} {
		must(t, s.Save(t.Context(), "app", "mystore", []state.Write{{Key: key, Value: []byte(value)}}))
	}
	must(t, s.Save(t.Context(), "other", "mystore", []state.Write{{Key: "9", Value: []byte(`{"state":"CA"}`)}}))
	return s
}

func TestService_QueryFilters(t *testing.T) {
	s := queryService(t, nil)
	for query, want := range map[string]string{
		`{"filter":{"EQ":{"state":"CA"}}}`:                                                               "3 5",
		`{"filter":{"EQ":{"person.id":1036}}}`:                                                           "1",
		`{"filter":{"NEQ":{"state":"CA"}}}`:                                                              "1 2 4 7",
		`{"filter":{"IN":{"state":["OR","CA"]}}}`:                                                        "2 3 5",
		`{"filter":{"GT":{"person.id":1036}}}`:                                                           "3 4",
		`{"filter":{"GTE":{"person.id":1036}}}`:                                                          "1 3 4",
		`{"filter":{"LT":{"city":"Portland"}}}`:                                                          "5",
		`{"filter":{"LTE":{"city":"Portland"}}}`:                                                         "2 5",
		`{"filter":{"GT":{"person.id":"1036"}}}`:                                                         "",
		`{"filter":{"OR":[{"EQ":{"person.org":"Dev Ops"}},{"EQ":{"state":"OR"}}]}}`:                      "1 2 4",
		`{"filter":{"AND":[{"EQ":{"person.org":"Hardware"}},{"EQ":{"state":"CA"}}]}}`:                    "5",
		`{"filter":{"EQ":{"state":"CA"}},"sort":[{"key":"person.id"}]}`:                                  "5 3",
		`{"filter":{"IN":{"state":["WA","CA"]}},"sort":[{"key":"state","order":"DESC"},{"key":"city"}]}`: "1 4 5 3",
		`{"sort":[{"key":"person.id","order":"ASC"}]}`:                                                   "7 5 2 1 4 3",
		`{"filter":{}}`: "1 2 3 4 5 7",
		`{}`:            "1 2 3 4 5 7",
		`{"filter":{"EQ":{"person.org.x":"Dev Ops"}}}`: "",
	} {
		res, err := s.Query(t.Context(), "app", "mystore", []byte(query), nil)
		must(t, err)
		var keys []string
		for _, r := range res.Results {
			keys = append(keys, r.Key)
			if r.ETag == "" || len(r.Value) == 0 {
				t.Errorf("result %+v", r)
			}
		}
		if got := strings.Join(keys, " "); got != want || res.Token != "" {
			t.Errorf("%s\ngot %q, token %q, want %q", query, got, res.Token, want)
		}
	}
}

func TestService_QueryPages(t *testing.T) {
	s := queryService(t, nil)
	for _, sort := range []string{"", `,"sort":[{"key":"person.id"}]`} {
		var keys []string
		token, pages := "", 0
		for pages == 0 || token != "" {
			q := fmt.Sprintf(`{"filter":{"NEQ":{"state":"OR"}}%s,"page":{"limit":2,"token":%q}}`, sort, token)
			res, err := s.Query(t.Context(), "app", "mystore", []byte(q), nil)
			must(t, err)
			for _, r := range res.Results {
				keys = append(keys, r.Key)
			}
			token = res.Token
			pages++
		}
		if got := strings.Join(keys, " "); pages != 3 || got != "1 3 4 5 7" && got != "7 5 1 4 3" {
			t.Errorf("%d pages: %q", pages, got)
		}
	}
}

func TestService_QueryFaults(t *testing.T) {
	s := queryService(t, nil)
	for query, want := range map[string]string{
		``:   "unexpected end of JSON input",
		`[]`: "cannot unmarshal array",
		`{"filter":{"EQ":{"a":1},"NEQ":{"b":1}}}`:   "filter unit must have a single element",
		`{"filter":{"LIKE":{"a":1}}}`:               `unsupported filter "LIKE"`,
		`{"filter":{"EQ":1}}`:                       "EQ filter must be a map",
		`{"filter":{"EQ":{"a":1,"b":2}}}`:           "EQ filter must contain a single key/value pair",
		`{"filter":{"IN":{"a":1}}}`:                 "IN filter value must be an array",
		`{"filter":{"AND":{"a":1}}}`:                "AND filter must be an array",
		`{"filter":{"OR":[{"EQ":{"a":1}}]}}`:        "OR filter must contain at least two entries",
		`{"filter":{"OR":[{"EQ":{"a":1}},7]}}`:      "filter unit must be a map",
		`{"sort":[{"key":"a","order":"SIDEWAYS"}]}`: "the order is ASC or DESC",
		`{"page":{"limit":-1}}`:                     "page limit is negative",
		`{"page":{"limit":1,"token":"x"}}`:          "is not one of ours",
	} {
		_, err := s.Query(t.Context(), "app", "mystore", []byte(query), nil)
		e := wantFault(t, err, "ERR_STATE_QUERY", 500, fault.Internal, "state store mystore query failed: failed to parse JSON query body: ")
		if !strings.Contains(e.Message, want) {
			t.Errorf("%s: %s", query, e.Message)
		}
	}
	encrypted := queryService(t, map[string]string{"primaryEncryptionKey": "00112233445566778899aabbccddeeff"})
	_, err := encrypted.Query(t.Context(), "app", "mystore", []byte(`{}`), nil)
	wantFault(t, err, "ERR_STATE_QUERY", 500, fault.Internal, "state store mystore query failed: cannot query encrypted store")
}

// native runs queries itself.
type native struct{ *state.Memory }

func (native) Query(_ context.Context, text []byte, metadata map[string]string) (state.QueryResult, error) {
	if metadata["fail"] != "" {
		return state.QueryResult{}, errors.New("cannot")
	}
	return state.QueryResult{Results: []state.Read{{Entry: state.Entry{Key: "app||k", Value: text}}}, Token: "more"}, nil
}

func TestService_QueryNative(t *testing.T) {
	var set component.Set[state.Store]
	set.Put(component.Instance[state.Store]{Spec: component.Spec{Name: "s"}, Value: native{state.NewMemory(state.MemoryOptions{})}})
	s := state.NewService(&set, slog.New(slog.DiscardHandler))
	res, err := s.Query(t.Context(), "app", "s", []byte(`{}`), nil)
	if err != nil || res.Token != "more" || len(res.Results) != 1 || res.Results[0].Key != "k" || string(res.Results[0].Value) != "{}" {
		t.Errorf("result %+v, %v", res, err)
	}
	_, err = s.Query(t.Context(), "app", "s", []byte(`{}`), map[string]string{"fail": "yes"})
	wantFault(t, err, "ERR_STATE_QUERY", 500, fault.Internal, "state store s query failed: cannot")
}

func FuzzQuery(f *testing.F) {
	f.Add([]byte(`{"filter":{"AND":[{"EQ":{"a":1}},{"IN":{"b":[1,"x"]}}]},"sort":[{"key":"a","order":"DESC"}],"page":{"limit":1}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var set component.Set[state.Store]
		m := state.NewMemory(state.MemoryOptions{})
		set.Put(component.Instance[state.Store]{Spec: component.Spec{Name: "s"}, Value: queryable{m}})
		must(t, m.Apply(t.Context(), []state.Op{{Key: "app||k", Value: []byte(`{"a":{"b":1}}`)}, {Key: "app||l", Value: []byte(`{"a":"x"}`)}}))
		_, _ = state.NewService(&set, slog.New(slog.DiscardHandler)).Query(t.Context(), "app", "s", text, nil)
	})
}
