// Command edged gives the applications on a device Dapr's building blocks over local sockets.
package main

import (
	"fmt"
	"os"
)

// version is set by the linker.
var version = "0.1.0-dev"

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "edged:", err)
		os.Exit(exitCode(err))
	}
}
