package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// A network is the way of one worker's proxied connections to the server.
type network struct {
	name  string
	proxy *toxiproxy.Proxy
}

func newNetwork(name, server string) (*network, error) {
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	n := &network{name, toxiproxy.NewProxy(api, name, "127.0.0.1:0", server)}
	return n, n.proxy.Start()
}

func (n *network) addr() string { return n.proxy.Listen }

func (n *network) close() { n.proxy.Stop() }

// cut closes all connections and refuses new ones until the function that it returns is called.
func (n *network) cut() (heal func() error, err error) {
	n.proxy.Stop()
	return n.proxy.Start, nil
}

// stall lets nothing through in either direction. What is sent meanwhile is lost, and the connections end
// with it.
func (n *network) stall() (heal func() error, err error) {
	return n.poison("timeout", map[string]int64{"timeout": 0})
}

// slow delays everything by about d in either direction.
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
