package conn

import (
	"net/url"
	"strconv"

	goredis "github.com/redis/go-redis/v9"
)

// URLOf returns the URL by which a client reaches its server, as far as it can be told.
func URLOf(client goredis.UniversalClient) string {
	switch c := client.(type) {
	case *goredis.Client:
		o := c.Options()
		if o.Network == "unix" {
			return (&url.URL{Scheme: "unix", User: url.UserPassword(o.Username, o.Password), Path: o.Addr, RawQuery: "db=" + strconv.Itoa(o.DB)}).String()
		}
		return (&url.URL{Scheme: "redis", User: url.UserPassword(o.Username, o.Password), Host: o.Addr, Path: strconv.Itoa(o.DB)}).String()
	case *goredis.ClusterClient:
		o := c.Options()
		return (&url.URL{Scheme: "redis+cluster", User: url.UserPassword(o.Username, o.Password), Host: "cluster", RawQuery: url.Values{"addr": o.Addrs}.Encode()}).String()
	}
	return ""
}
