package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/edged-io/edged/edge"
)

func status(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("edged status", flag.ContinueOnError)
	file := configFlag(fs)
	asJSON := fs.Bool("json", false, "print the status document as JSON")
	if err := parse(fs, args); err != nil {
		return err
	}
	cfg, err := loadConfig(*file)
	if err != nil {
		return err
	}
	doc, err := edge.FetchStatus(ctx, cfg)
	if err != nil {
		return fmt.Errorf("ask the daemon on %s: %w: is edged running, and may this user reach its socket?", edge.AdminSocket(cfg), err)
	}
	if *asJSON {
		_, err := os.Stdout.Write(doc)
		return err
	}
	return edge.PrintStatus(os.Stdout, doc)
}
