// Command edged-hub is the embedded default upstream of edged devices: a NATS JetStream server in one process.
package main

import (
	"fmt"
	"os"
)

// version is set by the linker.
var version = "0.1.0-dev"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "edged-hub:", err)
		os.Exit(exitCode(err))
	}
}
