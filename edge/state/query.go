package state

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// query is a parsed Dapr state query (Dapr API reference, query state, alpha): a filter over JSON values, an order, and
// a page. Keys of filter and order are paths such as person.name.
type query struct {
	Filter map[string]any `json:"filter"`
	Sort   []struct {
		Key   string `json:"key"`
		Order string `json:"order"`
	} `json:"sort"`
	Page struct {
		Limit int    `json:"limit"`
		Token string `json:"token"`
	} `json:"page"`

	match func(doc any) bool
	skip  int
}

func parseQuery(text []byte) (*query, error) {
	var q query
	if err := json.Unmarshal(text, &q); err != nil {
		return nil, err
	}
	q.match = func(any) bool { return true }
	if len(q.Filter) > 0 {
		m, err := parseFilter(q.Filter)
		if err != nil {
			return nil, err
		}
		q.match = m
	}
	for _, s := range q.Sort {
		if o := strings.ToUpper(s.Order); s.Key == "" || o != "" && o != "ASC" && o != "DESC" {
			return nil, fmt.Errorf("sort by key %q in order %q: the order is ASC or DESC", s.Key, s.Order)
		}
	}
	if q.Page.Limit < 0 {
		return nil, errors.New("page limit is negative")
	}
	if q.Page.Token != "" {
		n, err := strconv.ParseUint(q.Page.Token, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("page token %q is not one of ours", q.Page.Token)
		}
		q.skip = int(n)
	}
	return &q, nil
}

// parseFilter makes a predicate of a filter unit: one operator and what it is about.
func parseFilter(unit any) (func(doc any) bool, error) {
	m, ok := unit.(map[string]any)
	if !ok {
		return nil, errors.New("filter unit must be a map")
	}
	op, arg, ok := single(m)
	if !ok {
		return nil, errors.New("filter unit must have a single element")
	}
	switch op {
	case "AND", "OR":
		return parseJunction(op, arg)
	case "EQ", "NEQ", "GT", "GTE", "LT", "LTE", "IN":
		return parseComparison(op, arg)
	}
	return nil, fmt.Errorf("unsupported filter %q", op)
}

func single(m map[string]any) (key string, value any, ok bool) {
	for key, value = range m {
		break
	}
	return key, value, len(m) == 1
}

func parseJunction(op string, arg any) (func(doc any) bool, error) {
	units, ok := arg.([]any)
	if !ok {
		return nil, fmt.Errorf("%s filter must be an array", op)
	}
	if len(units) < 2 {
		return nil, fmt.Errorf("%s filter must contain at least two entries", op)
	}
	parts := make([]func(any) bool, len(units))
	for i, u := range units {
		var err error
		if parts[i], err = parseFilter(u); err != nil {
			return nil, err
		}
	}
	all := op == "AND"
	return func(doc any) bool {
		for _, p := range parts {
			if p(doc) != all {
				return !all
			}
		}
		return all
	}, nil
}

func parseComparison(op string, arg any) (func(doc any) bool, error) {
	m, ok := arg.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s filter must be a map", op)
	}
	key, want, ok := single(m)
	if !ok {
		return nil, fmt.Errorf("%s filter must contain a single key/value pair", op)
	}
	path := strings.Split(key, ".")
	if op == "IN" {
		list, ok := want.([]any)
		if !ok {
			return nil, errors.New("IN filter value must be an array")
		}
		return func(doc any) bool {
			got, ok := lookUp(doc, path)
			return ok && slices.ContainsFunc(list, func(w any) bool { return reflect.DeepEqual(got, w) })
		}, nil
	}
	return func(doc any) bool {
		got, ok := lookUp(doc, path)
		return compareAs(op, got, ok, want)
	}, nil
}

// compareAs decides one comparison. Only numbers with numbers and texts with texts have an order.
func compareAs(op string, got any, present bool, want any) bool {
	switch op {
	case "EQ":
		return present && reflect.DeepEqual(got, want)
	case "NEQ":
		return !present || !reflect.DeepEqual(got, want)
	}
	order, ok := order(got, want)
	if !present || !ok {
		return false
	}
	switch op {
	case "GT":
		return order > 0
	case "GTE":
		return order >= 0
	case "LT":
		return order < 0
	}
	return order <= 0
}

func order(a, b any) (int, bool) {
	switch a := a.(type) {
	case float64:
		if b, ok := b.(float64); ok {
			return cmp.Compare(a, b), true
		}
	case string:
		if b, ok := b.(string); ok {
			return cmp.Compare(a, b), true
		}
	}
	return 0, false
}

// lookUp follows a path into a JSON value.
func lookUp(doc any, path []string) (any, bool) {
	for _, step := range path {
		m, ok := doc.(map[string]any)
		if !ok {
			return nil, false
		}
		if doc, ok = m[step]; !ok {
			return nil, false
		}
	}
	return doc, true
}

// found is a match: its key, and what it is sorted by.
type found struct {
	key string
	by  []any
}

// run answers the query over the keys that begin with prefix, and only those: one application does not see another's.
// Values that are not JSON do not match. It reads all of them; only what is sorted by is kept meanwhile.
func (q *query) run(ctx context.Context, s Store, scanner Scanner, prefix string) (QueryResult, error) {
	var hits []found
	enough := 0 // without an order the walk can stop early; one more than the page tells that there are more
	if len(q.Sort) == 0 && q.Page.Limit > 0 {
		enough = q.skip + q.Page.Limit + 1
	}
	err := scanner.Scan(ctx, prefix, "", func(e Entry) bool {
		var doc any
		if json.Unmarshal(e.Value, &doc) != nil || !q.match(doc) {
			return true
		}
		hit := found{key: e.Key}
		for _, by := range q.Sort {
			v, _ := lookUp(doc, strings.Split(by.Key, "."))
			hit.by = append(hit.by, v)
		}
		hits = append(hits, hit)
		return enough == 0 || len(hits) < enough
	})
	if err != nil {
		return QueryResult{}, err
	}
	if len(q.Sort) > 0 {
		slices.SortStableFunc(hits, q.compare)
	}
	var res QueryResult
	hits = hits[min(q.skip, len(hits)):]
	if q.Page.Limit > 0 && len(hits) > q.Page.Limit {
		hits = hits[:q.Page.Limit]
		res.Token = strconv.Itoa(q.skip + q.Page.Limit)
	}
	keys := make([]string, len(hits))
	for i, h := range hits {
		keys[i] = h.key
	}
	entries, err := s.Get(ctx, keys...)
	if err != nil {
		return QueryResult{}, err
	}
	for _, e := range entries {
		if e.Found { // it may have been deleted meanwhile
			res.Results = append(res.Results, Read{Entry: e})
		}
	}
	return res, nil
}

// compare orders two matches: absent and incomparable values come first.
func (q *query) compare(a, b found) int {
	for i, by := range q.Sort {
		c, ok := order(a.by[i], b.by[i])
		if !ok {
			c = cmp.Compare(rank(a.by[i]), rank(b.by[i]))
		}
		if strings.EqualFold(by.Order, "DESC") {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// rank orders values of different types.
func rank(v any) int {
	switch v := v.(type) {
	case bool:
		if v {
			return 2
		}
		return 1
	case float64:
		return 3
	case string:
		return 4
	}
	return 0
}
