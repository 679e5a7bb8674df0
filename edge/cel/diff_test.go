package cel_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sort"
	"strings"
	"testing"
	"time"

	celgo "cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/edged-io/edged/edge/cel"
)

type celEnv = celgo.Env

// reference is cel-go as daprd sets it up: the standard library and the variable event.
func reference(t testing.TB) *celgo.Env {
	t.Helper()
	env, err := celgo.NewEnv(celgo.Variable("event", celgo.AnyType))
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// compare runs one expression through both and reports whether both took it.
func compare(t testing.TB, env *celgo.Env, expr string, event any) bool {
	t.Helper()
	mine, myErr := cel.Compile(expr)
	ast, issues := env.Compile(expr)
	var theirs celgo.Program
	theirErr := issues.Err()
	if theirErr == nil {
		theirs, theirErr = env.Program(ast)
	}
	switch {
	case myErr == nil && theirErr != nil:
		t.Fatalf("%s\naccepted, but cel-go refuses: %v", expr, theirErr)
	case myErr != nil && theirErr == nil && !errors.Is(myErr, cel.ErrUnsupported):
		t.Fatalf("%s\nrefused, but cel-go accepts: %v", expr, myErr)
	}
	if myErr != nil || theirErr != nil {
		return false
	}
	got, gotErr := mine.Eval(event)
	out, _, wantErr := theirs.Eval(map[string]any{"event": event})
	if (gotErr == nil) != (wantErr == nil) {
		t.Fatalf("%s\nof %s\ngot %v, %v; cel-go %v, %v", expr, show(event), got, gotErr, out, wantErr)
	}
	if gotErr == nil && describe(got) != describeRef(out) {
		t.Fatalf("%s\nof %s\ngot    %s\ncel-go %s", expr, show(event), describe(got), describeRef(out))
	}
	return true
}

func show(event any) string {
	b, err := json.Marshal(event)
	if err != nil {
		return fmt.Sprint(event)
	}
	return string(b)
}

func describe(v any) string {
	switch v := cel.Describe(v).(type) {
	case nil:
		return "null"
	case float64:
		return describeDouble(v)
	case []byte:
		return fmt.Sprintf("bytes %q", string(v))
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = describe(e)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		var parts []string
		for k, e := range v {
			parts = append(parts, describe(k)+": "+describe(e))
		}
		return describeMap(parts)
	case [][2]any:
		var parts []string
		for _, e := range v {
			switch k := e[0].(type) {
			case []any, map[string]any, *cel.Mapping:
				parts = append(parts, describe(k)+": ?")
			default:
				if k != k {
					parts = append(parts, describe(k)+": ?")
				} else {
					parts = append(parts, describe(k)+": "+describe(e[1]))
				}
			}
		}
		return describeMap(parts)
	case time.Time:
		return "time " + v.Format(time.RFC3339Nano)
	case time.Duration:
		return "duration " + v.String()
	default:
		return fmt.Sprintf("%T %v", v, v)
	}
}

func describeDouble(f float64) string {
	if math.IsNaN(f) {
		return "double NaN"
	}
	return fmt.Sprintf("double %v", f)
}

func describeMap(parts []string) string {
	sort.Strings(parts)
	return "{" + strings.Join(parts, ", ") + "}"
}

func describeRef(v ref.Val) string {
	switch v := v.(type) {
	case types.Null:
		return "null"
	case types.Double:
		return describeDouble(float64(v))
	case types.Bytes:
		return fmt.Sprintf("bytes %q", string(v))
	case traits.Lister:
		var parts []string
		for i := types.Int(0); i < v.Size().(types.Int); i++ {
			parts = append(parts, describeRef(v.Get(i)))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case traits.Mapper:
		var parts []string
		for it := v.Iterator(); it.HasNext() == types.True; {
			k := it.Next()
			_, isList := k.(traits.Lister)
			_, isMap := k.(traits.Mapper)
			if e, ok := v.Find(k); ok && !isList && !isMap {
				parts = append(parts, describeRef(k)+": "+describeRef(e))
			} else { // NaN, a list or a map, which no key equals
				parts = append(parts, describeRef(k)+": ?")
			}
		}
		return describeMap(parts)
	case types.Timestamp:
		return "time " + v.Format(time.RFC3339Nano)
	case types.Duration:
		return "duration " + v.Duration.String()
	case *types.Type:
		return "string type " + v.TypeName()
	}
	return fmt.Sprintf("%T %v", v.Value(), v.Value())
}

// event is what the seeds are evaluated for.
const seedEvent = `{"id":"e1","type":"com.dapr.event.sent","source":"orders","topic":"new-order","time":"2026-01-02T03:04:05Z","data":{
	"amount":150,"ratio":0.5,"name":"Ann \u00e9","tags":["a","b",3,null],"nested":{"deep":{"x":true}},"zero":0,"big":9007199254740993,"neg":-3,
	"empty":{},"none":null,"list":[],"items":[{"price":5,"sku":"x"},{"price":50,"sku":"y"}],"flags":[true,false]}}`

func decode(t testing.TB, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}
