package secret_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/resource"
	"github.com/edged-io/edged/edge/secret"
	"github.com/edged-io/edged/edge/secret/secrettest"
)

func write(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// single returns secrets that have one value each.
func single(pairs ...string) map[string]map[string]string {
	out := map[string]map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = map[string]string{pairs[i]: pairs[i+1]}
	}
	return out
}

const nested = `{"plain": "text", "number": 12345678901234567890, "yes": true, "none": null,
	"db": {"user": "me", "deep": {"er": "x"}, "list": ["a", {"b": "c"}]}}`

func TestNewLocalFile(t *testing.T) {
	open := func(properties map[string]string) func(t *testing.T) secret.Store {
		return func(t *testing.T) secret.Store {
			t.Helper()
			p := maps.Clone(properties)
			p["secretsFile"] = write(t, filepath.Join(t.TempDir(), "s.json"), nested)
			s, err := secret.NewLocalFile(t.Context(), component.Spec{Properties: p})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	t.Run("Flat", func(t *testing.T) {
		secrettest.Run(t, open(map[string]string{}), secrettest.Options{Secrets: single(
			"plain", "text", "number", "12345678901234567890", "yes", "true", "none", "", "db:user", "me", "db:deep:er", "x",
			"db:list:0", "a", "db:list:1:b", "c")})
	})
	t.Run("Separator", func(t *testing.T) {
		secrettest.Run(t, open(map[string]string{"nestedSeparator": "."}), secrettest.Options{Others: true, Secrets: single("db.deep.er", "x")})
	})
	t.Run("MultiValued", func(t *testing.T) {
		want := single("plain", "text", "number", "12345678901234567890", "yes", "true", "none", "")
		want["db"] = map[string]string{"user": "me", "deep:er": "x", "list:0": "a", "list:1:b": "c"}
		secrettest.Run(t, open(map[string]string{"multiValued": "true"}), secrettest.Options{Secrets: want})
	})
	t.Run("SameName", func(t *testing.T) {
		file := write(t, filepath.Join(t.TempDir(), "s.json"), `{"a:b": "second", "a": {"b": "first"}}`)
		s, err := secret.NewLocalFile(t.Context(), component.Spec{Properties: map[string]string{"secretsFile": file}})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Get(t.Context(), "a:b", nil); err != nil || got["a:b"] != "first" {
			t.Errorf("got %v, %v", got, err)
		}
	})
	t.Run("Faults", func(t *testing.T) {
		for text, want := range map[string]string{
			"":                         "is empty",
			"{\n\"a\": \"hunter2\",,}": "line 2: is not valid JSON",
			`["hunter2"]`:              "is not a JSON object",
			`{"a": "hunter2"} trail`:   "something after",
		} {
			file := write(t, filepath.Join(t.TempDir(), "s.json"), text)
			_, err := secret.NewLocalFile(t.Context(), component.Spec{Properties: map[string]string{"secretsFile": file}})
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q: got %v, want %q", text, err, want)
			}
		}
		for _, file := range []string{"", filepath.Join(t.TempDir(), "none"), t.TempDir()} {
			if _, err := secret.NewLocalFile(t.Context(), component.Spec{Properties: map[string]string{"secretsFile": file}}); err == nil {
				t.Errorf("file %q: no error", file)
			}
		}
	})
}

func TestNewLocalEnv(t *testing.T) {
	t.Setenv("SECRETTEST_A", "one")
	t.Setenv("SECRETTEST_B", "two=2")
	t.Setenv("SECRETTEST_", "the prefix itself")
	t.Setenv("DAPR_API_TOKEN", "hunter2")
	t.Setenv("APP_API_TOKEN", "hunter2")
	open := func(prefix string) func(t *testing.T) secret.Store {
		return func(t *testing.T) secret.Store {
			t.Helper()
			s, err := secret.NewLocalEnv(t.Context(), component.Spec{Properties: map[string]string{"Prefix": prefix}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	t.Run("Prefix", func(t *testing.T) {
		secrettest.Run(t, open("SECRETTEST_"), secrettest.Options{Secrets: single("A", "one", "B", "two=2"), EmptyIfMissing: true})
	})
	t.Run("NoPrefix", func(t *testing.T) {
		secrettest.Run(t, open(""), secrettest.Options{Secrets: single("SECRETTEST_A", "one"), Others: true, EmptyIfMissing: true})
	})
	t.Run("TokensStayHidden", func(t *testing.T) {
		for prefix, names := range map[string][]string{"": {"DAPR_API_TOKEN", "APP_API_TOKEN"}, "DAPR_": {"API_TOKEN"}, "APP_": {"API_TOKEN"}} {
			s := open(prefix)(t)
			all, err := s.BulkGet(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				got, err := s.Get(t.Context(), name, nil)
				if err != nil || got[name] != "" || all[name] != nil {
					t.Errorf("prefix %q shows %s: %v, %v, %v", prefix, name, got, all[name], err)
				}
			}
		}
	})
}

func TestNewSystemd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "credentials")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "mqtt.password"), "p w\n")
	write(t, filepath.Join(dir, "two-lines"), "a\nb\r\n")
	outside := write(t, filepath.Join(dir, "..", "outside"), "hunter2")
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	open := func(properties map[string]string) func(t *testing.T) secret.Store {
		return func(t *testing.T) secret.Store {
			t.Helper()
			t.Setenv("CREDENTIALS_DIRECTORY", dir)
			s, err := secret.NewSystemd(t.Context(), component.Spec{Properties: properties})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	t.Run("Text", func(t *testing.T) {
		secrettest.Run(t, open(nil), secrettest.Options{Secrets: single("mqtt.password", "p w", "two-lines", "a\nb")})
	})
	t.Run("KeepNewline", func(t *testing.T) {
		secrettest.Run(t, open(map[string]string{"keepNewline": "true"}), secrettest.Options{Secrets: single("mqtt.password", "p w\n", "two-lines", "a\nb\r\n")})
	})
	t.Run("Base64", func(t *testing.T) {
		secrettest.Run(t, open(map[string]string{"encoding": "base64"}), secrettest.Options{Others: true, Secrets: single("mqtt.password", "cCB3Cg==")})
	})
	t.Run("NeverLeavesTheFolder", func(t *testing.T) {
		if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		s := open(nil)(t)
		for _, name := range []string{"link", "../outside", outside, "folder", "folder/../../outside", "."} {
			if got, err := s.Get(t.Context(), name, nil); err == nil {
				t.Errorf("%q: got %v", name, got)
			}
		}
		if all, err := s.BulkGet(t.Context(), nil); err != nil || all["link"] != nil {
			t.Errorf("got %v, %v", all, err)
		}
	})
	t.Run("Bounds", func(t *testing.T) {
		s := open(nil)(t)
		write(t, filepath.Join(dir, "large"), strings.Repeat("x", 1<<20+1))
		if _, err := s.Get(t.Context(), "large", nil); err == nil || errors.Is(err, secret.ErrNotFound) {
			t.Errorf("large: %v", err)
		}
		write(t, filepath.Join(dir, "binary"), "\xff\x00")
		if _, err := s.Get(t.Context(), "binary", nil); err == nil || !strings.Contains(err.Error(), "base64") {
			t.Errorf("binary: %v", err)
		}
	})
	t.Run("NoCredentials", func(t *testing.T) {
		t.Setenv("CREDENTIALS_DIRECTORY", "")
		if _, err := secret.NewSystemd(t.Context(), component.Spec{}); err == nil {
			t.Error("no error")
		}
	})
}

// fixed is a store of fixed secrets.
type fixed map[string]map[string]string

func (f fixed) Get(_ context.Context, name string, _ map[string]string) (map[string]string, error) {
	if data, ok := f[name]; ok {
		return data, nil
	}
	return nil, secret.NotFound(name)
}

func (f fixed) BulkGet(context.Context, map[string]string) (map[string]map[string]string, error) {
	if f["broken"] != nil {
		return nil, errors.New("broken")
	}
	return maps.Clone(f), nil
}

func TestService(t *testing.T) {
	var stores component.Set[secret.Store]
	scopes := map[string][]resource.SecretScope{
		"reader": {{StoreName: "vault", DefaultAccess: "Deny"}},
		"some":   {{StoreName: "vault", AllowedSecrets: []string{"b", "a"}}, {StoreName: "typo"}},
		"most":   {{StoreName: "vault", DeniedSecrets: []string{"c"}}},
	}
	s := secret.NewService(&stores, func(app string) []resource.SecretScope { return scopes[app] })

	check := func(t *testing.T, err error, code string, status int, grpc fault.Code, message string) {
		t.Helper()
		f := fault.From(err)
		if err == nil || f.ErrorCode != code || f.HTTP != status || f.GRPC != grpc || f.Message != message {
			t.Errorf("got %+v", f)
		}
	}
	t.Run("ErrNotConfigured", func(t *testing.T) {
		_, err := s.Get(t.Context(), "app", "vault", "a", nil)
		check(t, err, "ERR_SECRET_STORES_NOT_CONFIGURED", 500, fault.FailedPrecondition, "secret store is not configured")
	})
	stores.Put(component.Instance[secret.Store]{Spec: component.Spec{Name: "vault"}, Value: fixed(single("a", "1", "b", "2", "c", "3"))})
	stores.Put(component.Instance[secret.Store]{Spec: component.Spec{Name: "private", Scopes: []string{"other"}}, Value: fixed(single("broken", "x"))})

	t.Run("ErrNotFound", func(t *testing.T) {
		for _, store := range []string{"nobody", "private"} {
			_, err := s.BulkGet(t.Context(), "app", store, nil)
			check(t, err, "ERR_SECRET_STORE_NOT_FOUND", 401, fault.InvalidArgument, "failed finding secret store with key "+store)
		}
	})
	t.Run("ErrPermissionDenied", func(t *testing.T) {
		_, err := s.Get(t.Context(), "reader", "vault", "a", nil)
		check(t, err, "ERR_PERMISSION_DENIED", 403, fault.PermissionDenied, `access denied by policy to get "a" from "vault"`)
	})
	t.Run("ErrGet", func(t *testing.T) {
		_, err := s.Get(t.Context(), "app", "vault", "key1", nil)
		check(t, err, "ERR_SECRET_GET", 500, fault.Internal, "failed getting secret with key key1 from secret store vault: secret key1 not found")
		if !errors.Is(err, secret.ErrNotFound) {
			t.Error("the cause is lost")
		}
		_, err = s.BulkGet(t.Context(), "other", "private", nil)
		check(t, err, "ERR_SECRET_GET", 500, fault.Internal, "failed getting secrets from secret store private: broken")
	})
	t.Run("Scopes", func(t *testing.T) {
		for app, want := range map[string]string{"app": "abc", "reader": "", "some": "ab", "most": "ab"} {
			all, err := s.BulkGet(t.Context(), app, "vault", nil)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(slices.Sorted(maps.Keys(all)), "")
			one := ""
			for _, key := range []string{"a", "b", "c"} {
				if _, err := s.Get(t.Context(), app, "vault", key, nil); err == nil {
					one += key
				}
			}
			if got != want || one != want {
				t.Errorf("%s may read %q, and %q one by one; want %q", app, got, one, want)
			}
		}
	})
	t.Run("Unmatched", func(t *testing.T) {
		if got := s.Unmatched("some"); !slices.Equal(got, []string{"typo"}) {
			t.Errorf("got %v", got)
		}
	})
}

func FuzzNewLocalFile(f *testing.F) {
	f.Add([]byte(nested), ":", true)
	f.Add([]byte(nested), "", false)
	f.Add([]byte(`{"a":{"b":1},"a:b":2}`), ":", false)
	file := filepath.Join(f.TempDir(), "s.json")
	f.Fuzz(func(t *testing.T, data []byte, separator string, multi bool) {
		write(t, file, string(data))
		properties := map[string]string{"secretsFile": file, "nestedSeparator": separator}
		if multi {
			properties["multiValued"] = "true"
		}
		s, err := secret.NewLocalFile(t.Context(), component.Spec{Properties: properties})
		if err != nil {
			return
		}
		all, err := s.BulkGet(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range all {
			if got, err := s.Get(t.Context(), name, nil); err != nil || !maps.Equal(got, want) {
				t.Errorf("%q: got %q, %v; want %q", name, got, err, want)
			}
		}
	})
}
