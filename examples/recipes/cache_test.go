package recipes

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

// Pages makes pages, which is slow, and keeps them in a cache that all
// processes share.
type Pages struct {
	Locks namedlock.Interface
	Cache interface {
		Get(key string) (page string, ok bool)
		Set(key, page string)
	}
	Render func(ctx context.Context, key string) (string, error)
}

// Page returns a page. One process renders it; the others wait, and then find
// it.
func (p Pages) Page(ctx context.Context, key string) (string, error) {
	if page, ok := p.Cache.Get(key); ok {
		return page, nil // no lock if there is nothing to do
	}
	return namedlock.Do(ctx, p.Locks, namedlock.SafeName("page", key), 10*time.Second, func(ctx context.Context) (string, error) {
		if page, ok := p.Cache.Get(key); ok {
			return page, nil // another process rendered it while this one waited
		}
		page, err := p.Render(ctx, key)
		if err == nil {
			p.Cache.Set(key, page)
		}
		return page, err
	})
}

// cache stands for Redis, memcached, or a table.
type cache struct{ sync.Map }

func (c *cache) Get(key string) (string, bool) {
	page, ok := c.Load(key)
	if !ok {
		return "", false
	}
	return page.(string), true
}

func (c *cache) Set(key, page string) { c.Store(key, page) }

// A cache stampede: a popular page is not in the cache, and many callers in
// several processes request it at once. It is rendered once.
func Example_cacheStampede() {
	var rendered atomic.Int32
	render := func(_ context.Context, key string) (string, error) {
		rendered.Add(1)
		return "the page " + key, nil
	}
	here := locktest.New() // in production, what namedlock.Open returns
	defer here.Close()
	there := here.Peer() // as another process would have
	defer there.Close()

	var shared cache
	var all sync.WaitGroup
	for _, locks := range []namedlock.Interface{here, there} {
		pages := Pages{Locks: locks, Cache: &shared, Render: render}
		for range 50 {
			all.Go(func() {
				if page, err := pages.Page(context.Background(), "Home"); page != "the page Home" || err != nil {
					fmt.Println(page, err)
				}
			})
		}
	}
	all.Wait()
	fmt.Println("rendered:", rendered.Load())
	// Output:
	// rendered: 1
}
