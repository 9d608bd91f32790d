// Command servers starts a database server, prints its data source name, and
// stops the server when interrupted.
//
//	go run -C e2e ./cmd/servers mysql|mariadb [server flag ...]
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

func main() {
	if len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-") {
		fmt.Fprintln(os.Stderr, "usage: servers mysql|mariadb [server flag ...]")
		os.Exit(2)
	}
	if err := run(servers.Kind(os.Args[1]), os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(1)
	}
}

func run(kind servers.Kind, args []string) error {
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt, syscall.SIGTERM)

	s, err := servers.Start(kind, servers.WithArgs(args...))
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, s.Version(), "runs until this command is interrupted")
	fmt.Println(s.DSN())
	<-interrupt
	return s.Stop()
}
