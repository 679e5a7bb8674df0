package resource_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/resource"
)

// settle looks as often as a change needs to be taken.
func settle(w *resource.Watcher) (resource.Diff, resource.Faults) {
	var all resource.Faults
	for range 3 {
		diff, faults := w.Check()
		all = append(all, faults...)
		if !diff.Empty() {
			return diff, all
		}
	}
	return resource.Diff{}, all
}

func watch(t *testing.T, files map[string]string) (*resource.Watcher, string) {
	t.Helper()
	dir := folder(t, files)
	w := resource.NewWatcher([]string{dir}, resource.Options{})
	if _, faults := w.Load(); len(faults) != 0 {
		t.Fatal(faults)
	}
	return w, dir
}

func TestWatcher_Check(t *testing.T) {
	t.Run("Nothing", func(t *testing.T) {
		w, dir := watch(t, map[string]string{"a.yaml": component("a", "state.bbolt")})
		write(t, filepath.Join(dir, "a.yaml"), "# moved\n\n"+component("a", "state.bbolt"))
		if diff, faults := settle(w); !diff.Empty() || len(faults) != 0 {
			t.Errorf("got %+v, %v", diff, faults)
		}
	})
	t.Run("AddUpdateRemove", func(t *testing.T) {
		w, dir := watch(t, map[string]string{"a.yaml": component("a", "state.bbolt") + component("b", "state.bbolt"), "c.yaml": component("c", "state.bbolt")})
		write(t, filepath.Join(dir, "a.yaml"), component("a", "state.in-memory")+component("d", "state.bbolt")+v2Subscription)
		if err := os.Remove(filepath.Join(dir, "c.yaml")); err != nil {
			t.Fatal(err)
		}
		if first, _ := w.Check(); !first.Empty() {
			t.Errorf("taken at the first look: %+v", first)
		}
		diff, faults := settle(w)
		if len(faults) != 0 || len(diff.Components.Added) != 1 || diff.Components.Added[0].Meta.Name != "d" ||
			len(diff.Components.Updated) != 1 || diff.Components.Updated[0].Old.Spec.Type != "state.bbolt" ||
			diff.Components.Updated[0].New.Spec.Type != "state.in-memory" ||
			len(diff.Components.Removed) != 2 || diff.Components.Removed[1].Meta.Name != "c" || len(diff.Subscriptions.Added) != 1 {
			t.Errorf("got %+v, %v", diff, faults)
		}
		if again, _ := settle(w); !again.Empty() {
			t.Errorf("told twice: %+v", again)
		}
	})
	t.Run("SameSizeAndTime", func(t *testing.T) {
		w, dir := watch(t, map[string]string{"a.yaml": component("a", "state.bbolt")})
		file := filepath.Join(dir, "a.yaml")
		before, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		write(t, file, component("b", "state.bbolt"))
		if err := os.Chtimes(file, before.ModTime(), before.ModTime()); err != nil {
			t.Fatal(err)
		}
		if diff, _ := settle(w); len(diff.Components.Added) != 1 {
			t.Errorf("got %+v", diff)
		}
	})
	t.Run("BrokenKeepsOld", func(t *testing.T) {
		w, dir := watch(t, map[string]string{"a.yaml": component("a", "state.bbolt")})
		write(t, filepath.Join(dir, "a.yaml"), component("a", "state.in-memory")+"broken: [\n")
		diff, faults := settle(w)
		if !diff.Empty() || len(faults) != 1 || !strings.Contains(faults.Error(), "is not valid YAML") {
			t.Errorf("got %+v, %v", diff, faults)
		}
		if _, faults := settle(w); len(faults) != 0 {
			t.Errorf("told twice: %v", faults)
		}
		write(t, filepath.Join(dir, "b.yaml"), component("b", "state.bbolt"))
		if diff, _ := settle(w); len(diff.Components.Added) != 1 || len(w.Current().Components) != 2 {
			t.Errorf("a broken file stops the others: %+v", diff)
		}
		write(t, filepath.Join(dir, "a.yaml"), component("a", "state.in-memory"))
		if diff, _ := settle(w); len(diff.Components.Updated) != 1 {
			t.Errorf("got %+v", diff)
		}
	})
	t.Run("DuplicateKeepsOld", func(t *testing.T) {
		w, dir := watch(t, map[string]string{"a.yaml": component("a", "state.bbolt")})
		write(t, filepath.Join(dir, "b.yaml"), component("a", "state.in-memory"))
		if diff, faults := settle(w); !diff.Empty() || len(faults) != 1 {
			t.Errorf("got %+v, %v", diff, faults)
		}
		if err := os.Remove(filepath.Join(dir, "a.yaml")); err != nil {
			t.Fatal(err)
		}
		if diff, _ := settle(w); len(diff.Components.Updated) != 1 {
			t.Errorf("got %+v", diff)
		}
	})
	t.Run("FolderAway", func(t *testing.T) {
		w, dir := watch(t, map[string]string{"a.yaml": component("a", "state.bbolt")})
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		if diff, faults := settle(w); !diff.Empty() || len(faults) != 1 {
			t.Errorf("got %+v, %v", diff, faults)
		}
		if err := os.Rename(dir+".away", dir); err != nil {
			t.Fatal(err)
		}
		if diff, faults := settle(w); !diff.Empty() || len(faults) != 0 {
			t.Errorf("got %+v, %v", diff, faults)
		}
	})
	t.Run("Reload", func(t *testing.T) {
		w, dir := watch(t, map[string]string{"a.yaml": component("a", "state.bbolt")})
		write(t, filepath.Join(dir, "b.yaml"), component("b", "state.bbolt"))
		if err := os.Remove(filepath.Join(dir, "a.yaml")); err != nil {
			t.Fatal(err)
		}
		if diff, _ := w.Reload(); len(diff.Components.Added) != 1 || len(diff.Components.Removed) != 1 {
			t.Errorf("got %+v", diff)
		}
	})
}

func TestWatcher_Run(t *testing.T) {
	w, dir := watch(t, map[string]string{"a.yaml": component("a", "state.bbolt")})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	write(t, filepath.Join(dir, "b.yaml"), component("b", "state.bbolt"))
	got := 0
	w.Run(ctx, time.Millisecond, func(d resource.Diff, _ resource.Faults) {
		got += len(d.Components.Added)
		cancel()
	})
	if got != 1 {
		t.Errorf("got %d additions", got)
	}
}
