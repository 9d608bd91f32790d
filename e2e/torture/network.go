package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/go-namedlock/namedlock/e2e/internal/netfault"
	"github.com/rs/zerolog"
)

// A network connects one worker's proxied connections to the server. It has a
// proxy that can cut, stall and delay, and one that can become silent.
type network struct {
	name string
	// The address of the proxy, which is constant. proxy.Listen is set again at
	// each start, and must not be read at the same time.
	addr   string
	proxy  *toxiproxy.Proxy
	behind *netfault.Proxy
}

func newNetwork(name, server string) (*network, error) {
	behind, err := netfault.Listen(server)
	if err != nil {
		return nil, err
	}
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n := &network{name: name, proxy: toxiproxy.NewProxy(api, name, "127.0.0.1:0", behind.Addr()), behind: behind}
	if err := n.proxy.Start(); err != nil {
		return nil, errors.Join(err, behind.Close())
	}
	n.addr = n.proxy.Listen
	return n, nil
}

func (n *network) close() error {
	n.proxy.Stop()
	return n.behind.Close()
}

// silence passes nothing in either direction, not even the end of a connection.
// After it, everything is delivered.
func (n *network) silence() (heal func() error, err error) {
	n.behind.Silence()
	return func() error { n.behind.Heal(); return nil }, nil
}

// cut closes all connections, and refuses new ones until heal is called.
func (n *network) cut() (heal func() error, err error) {
	n.proxy.Stop()
	return n.proxy.Start, nil
}

// stall passes nothing in either direction. The bytes that are sent in the
// meantime are lost. The connections end with the stall.
func (n *network) stall() (heal func() error, err error) {
	return n.poison("timeout", map[string]int64{"timeout": 0})
}

// slow delays all bytes by about d in either direction.
func (n *network) slow(d time.Duration) (heal func() error, err error) {
	ms := d.Milliseconds()
	return n.poison("latency", map[string]int64{"latency": ms, "jitter": ms / 4})
}

func (n *network) poison(toxic string, attributes map[string]int64) (heal func() error, err error) {
	streams := []string{"upstream", "downstream"}
	name := func(stream string) string { return fmt.Sprintf("%s %s", toxic, stream) }
	for _, stream := range streams {
		b, err := json.Marshal(map[string]any{"name": name(stream), "type": toxic, "stream": stream, "attributes": attributes})
		if err != nil {
			return nil, err
		}
		if _, err := n.proxy.Toxics.AddToxicJson(bytes.NewReader(b)); err != nil {
			return nil, err
		}
	}
	return func() error {
		for _, stream := range streams {
			if err := n.proxy.Toxics.RemoveToxic(context.Background(), name(stream)); err != nil {
				return err
			}
		}
		return nil
	}, nil
}
