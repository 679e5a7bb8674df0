package metadata_test

import (
	"sync"
	"testing"

	"github.com/edged-io/edged/edge/metadata"
)

func TestService_Get(t *testing.T) {
	t.Run("no sources", func(t *testing.T) {
		r := metadata.New("orders", "edge", nil, metadata.Sources{}).Get()
		if r.ID != "orders" || r.RuntimeVersion != "edge" || r.Extended[metadata.VersionAttribute] != "edge" {
			t.Fatalf("got %+v", r)
		}
		if r.Actors.Status != metadata.ActorsDisabled || r.Actors.Placement != "placement: disconnected" || r.Actors.HostReady {
			t.Fatalf("actors %+v", r.Actors)
		}
	})
	t.Run("sources are asked each time", func(t *testing.T) {
		n := 0
		s := metadata.New("orders", "1.18.2", []string{"HotReload"}, metadata.Sources{
			Components: func() []metadata.Component { n++; return make([]metadata.Component, n) },
			App:        func() metadata.App { return metadata.App{Port: 6001, Protocol: "http"} },
			Actors:     func() metadata.Actors { return metadata.Actors{Status: metadata.ActorsRunning} },
			Workers:    func() int { return 2 },
		})
		s.Get()
		r := s.Get()
		if len(r.Components) != 2 || r.App.Port != 6001 || r.Actors.Status != "RUNNING" || r.Workers != 2 {
			t.Fatalf("got %+v", r)
		}
	})
}

func TestService_Set(t *testing.T) {
	s := metadata.New("orders", "edge", nil, metadata.Sources{})
	before := s.Get()
	s.Set("cliPID", "17")
	s.Set("", "ignored")
	s.Set(metadata.VersionAttribute, "forged")
	after := s.Get()
	if _, ok := before.Extended["cliPID"]; ok {
		t.Fatal("a report changed after it was given out")
	}
	if after.Extended["cliPID"] != "17" || after.Extended[metadata.VersionAttribute] != "edge" || len(after.Extended) != 2 {
		t.Fatalf("got %v", after.Extended)
	}
}

func TestService_Concurrent(t *testing.T) {
	s := metadata.New("orders", "edge", nil, metadata.Sources{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				s.Set("k", "v")
				s.Get()
			}
		})
	}
	wg.Wait()
}
