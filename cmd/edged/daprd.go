package main

import (
	"context"
	"fmt"
	"os"

	"github.com/edged-io/edged/edge"
	"github.com/edged-io/edged/edge/telemetry"
)

// daprd serves one application with daprd's flags, ports and log format.
func daprd(ctx context.Context, args []string) error {
	flags, err := edge.ParseDaprd(args, os.Getenv, os.Stderr)
	if err != nil {
		return err
	}
	if flags.Version {
		_, err := fmt.Println(edge.RuntimeVersion(version))
		return err
	}
	cfg := flags.Config
	level, err := telemetry.ParseLevel(cfg.Log.Level)
	if err != nil {
		return err
	}
	log := telemetry.NewLogger(os.Stdout, telemetry.LogOptions{
		Level: level, JSON: cfg.Log.Format == "json", App: cfg.Apps[0].ID, Version: edge.RuntimeVersion(version),
	})
	log.Info("Starting edged as daprd -- version " + version)
	if err := runRuntime(ctx, func() (edge.Config, error) { return cfg, nil }, log); err != nil {
		log.Error("Fatal error from runtime: " + err.Error())
		return err
	}
	log.Info("Daprd shutdown gracefully")
	return nil
}
