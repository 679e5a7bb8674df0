package resource_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/edged-io/edged/edge/resource"
)

// loaded returns the one component whose metadata is text.
func loaded(t *testing.T, text string) resource.Component {
	t.Helper()
	dir := folder(t, map[string]string{"a.yaml": component("c", "state.bbolt", "  metadata:", text, "auth: {secretStore: vault}")})
	set, faults := resource.Load([]string{dir}, resource.Options{})
	if len(faults) != 0 {
		t.Fatal(faults)
	}
	return set.Components[0]
}

func TestResolver_Properties(t *testing.T) {
	secrets := map[string]map[string]string{
		"db": {"db": "whole", "user": "me", "empty": ""},
	}
	env := map[string]string{"HOST": "example", "DAPR_API_TOKEN": "t1", "APP_API_TOKEN": "t2", "LATER": "x"}
	r := resource.Resolver{
		AppID: "orders", Namespace: "default",
		Secret: func(_ context.Context, store, name string, _ map[string]string) (map[string]string, error) {
			if store != "vault" {
				return nil, resource.ErrNoSecretStore
			}
			if data, ok := secrets[name]; ok {
				return data, nil
			}
			return nil, fmt.Errorf("secret %s not found", name)
		},
		Getenv: func(name string) string { return env[name] },
	}

	t.Run("Values", func(t *testing.T) {
		c := loaded(t, `  - {name: text, value: "a b"}
  - {name: quotedNumber, value: "007"}
  - {name: number, value: 8080}
  - {name: digits, value: 09012345678}
  - {name: hex, value: 0x10}
  - {name: float, value: 1.50}
  - {name: big, value: 1e3}
  - {name: yes, value: yes}
  - {name: off, value: off}
  - {name: quotedYes, value: "yes"}
  - {name: bool, value: TRUE}
  - {name: date, value: 2024-01-02}
  - {name: json, value: {b: [1, x, null], a: "<&>"}}
  - {name: list, value: [1, 2.5]}
  - {name: none, value: }
  - {name: multi, value: "{\"x\": \"é\\n\"}"}`)
		got, warnings, err := r.Properties(t.Context(), c)
		if err != nil || len(warnings) != 0 {
			t.Fatal(err, warnings)
		}
		want := map[string]string{
			"text": "a b", "quotedNumber": "007", "number": "8080", "digits": "09012345678", "hex": "16", "float": "1.5", "big": "1000",
			"yes": "true", "off": "false", "quotedYes": "yes", "bool": "true", "date": "2024-01-02", "json": `{"a":"<&>","b":[1,"x",null]}`,
			"list": "[1,2.5]", "none": "", "multi": `{"x": "é\n"}`,
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	})

	t.Run("References", func(t *testing.T) {
		c := loaded(t, `  - {name: whole, secretKeyRef: {name: db}}
  - {name: user, secretKeyRef: {name: db, key: user}}
  - {name: missing, secretKeyRef: {name: nobody}}
  - {name: noKey, secretKeyRef: {name: db, key: nobody}}
  - {name: env, envRef: HOST}
  - {name: token, envRef: DAPR_API_TOKEN}
  - {name: appToken, envRef: app_api_token}`)
		got, warnings, err := r.Properties(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"whole": "whole", "user": "me", "missing": "", "noKey": "", "env": "example", "token": "", "appToken": ""}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %v", got)
		}
		if len(warnings) != 4 || !strings.Contains(errors.Join(warnings...).Error(), "secret nobody not found") {
			t.Errorf("warnings %v", warnings)
		}
	})

	t.Run("EnvAllowlist", func(t *testing.T) {
		env["DAPR_ENV_KEYS"] = "HOST OTHER"
		defer delete(env, "DAPR_ENV_KEYS")
		got, _, _ := r.Properties(t.Context(), loaded(t, "  - {name: a, envRef: HOST}\n  - {name: b, envRef: LATER}"))
		if !reflect.DeepEqual(got, map[string]string{"a": "example", "b": ""}) {
			t.Errorf("got %v", got)
		}
	})

	t.Run("Templates", func(t *testing.T) {
		c := loaded(t, `  - {name: id, value: "{appID}-{namespace}"}
  - {name: uuids, value: "{uuid}/{uuid}"}`)
		got, _, err := r.Properties(t.Context(), c)
		if err != nil || got["id"] != "orders-default.orders" {
			t.Errorf("got %v, %v", got, err)
		}
		uuid := `[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`
		m := regexp.MustCompile("^(" + uuid + ")/(" + uuid + ")$").FindStringSubmatch(got["uuids"])
		if len(m) != 3 || m[1] == m[2] {
			t.Errorf("uuids %q", got["uuids"])
		}
		if _, _, err := r.Properties(t.Context(), loaded(t, `  - {name: pod, value: "{podName}"}`)); err == nil {
			t.Error("podName is not set, and there is no error")
		}
		pod := r
		pod.PodName = "p1"
		if got, _, _ := pod.Properties(t.Context(), loaded(t, `  - {name: pod, value: "{podName}"}`)); got["pod"] != "p1" {
			t.Errorf("got %v", got)
		}
	})

	t.Run("ErrNoSecretStore", func(t *testing.T) {
		c := loaded(t, "  - {name: a, secretKeyRef: {name: db}}")
		c.Auth.SecretStore = "nobody"
		if _, _, err := r.Properties(t.Context(), c); !errors.Is(err, resource.ErrNoSecretStore) {
			t.Errorf("got %v", err)
		}
		if _, _, err := (resource.Resolver{}).Properties(t.Context(), c); !errors.Is(err, resource.ErrNoSecretStore) {
			t.Errorf("got %v", err)
		}
	})
}
