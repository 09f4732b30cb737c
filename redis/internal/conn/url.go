package conn

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// URLOf returns a URL that names the servers of a client as far as its options do.
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

// errURL is the only error for a URL that does not parse: the parsers' own errors quote
// pieces of the URL, which can be pieces of a password.
var errURL = errors.New("parse broker url: not a url of redis:, rediss:, unix:, redis+cluster: or redis+sentinel:, " +
	"like redis://user:password@host:6379/0 (special characters of a password are percent-encoded)")

// ParseURL returns a dialer for the servers that a URL names. No error shows a
// password.
func ParseURL(raw string) (Dialer, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return Dialer{}, errURL
	}
	if err := checkURL(u); err != nil {
		return Dialer{}, err
	}
	d, err := parseDialer(raw)
	switch {
	case err != nil:
		return Dialer{}, diagnoseURL(raw)
	case d.sentinel && d.master == "":
		return Dialer{}, errors.New("parse broker url: redis+sentinel: needs ?master_name=…")
	}
	return d, nil
}

// checkURL refuses URLs that go-redis would silently read as the local server or as
// database 0.
func checkURL(u *url.URL) error {
	if strings.HasPrefix(u.Scheme, "redis") && u.Host == "" && (u.Opaque != "" || u.User == nil && strings.Trim(u.Path, "/") != "") {
		return fmt.Errorf("parse broker url: two slashes and a host have to follow %[1]s:, as in %[1]s://host:6379", u.Scheme)
	}
	db := strings.Trim(u.Path, "/")
	if u.Scheme == "unix" || u.Query().Has("db") {
		db = u.Query().Get("db")
	}
	if n, err := strconv.Atoi(db); err == nil && n < 0 {
		return errors.New("parse broker url: the number of the database is negative; write 0 or more, as in redis://host:6379/0")
	}
	return nil
}

// parseDialer is ParseURL, but its errors may show a password.
func parseDialer(raw string) (d Dialer, err error) {
	scheme, rest, _ := strings.Cut(raw, ":")
	secure, addrs := false, []string(nil)
	switch scheme {
	case "redis", "rediss", "unix":
		opt, err := goredis.ParseURL(raw)
		if err != nil {
			return Dialer{}, err
		}
		d, secure, addrs = single(opt), opt.TLSConfig != nil, []string{opt.Addr}
	case "redis+cluster", "rediss+cluster":
		opt, err := goredis.ParseClusterURL(strings.TrimSuffix(scheme, "+cluster") + ":" + rest)
		if err != nil {
			return Dialer{}, err
		}
		d, secure, addrs = cluster(opt), opt.TLSConfig != nil, opt.Addrs
	case "redis+sentinel", "rediss+sentinel":
		opt, err := goredis.ParseFailoverURL(strings.TrimSuffix(scheme, "+sentinel") + ":" + rest)
		if err != nil {
			return Dialer{}, err
		}
		d, secure, addrs = sentinel(opt), opt.TLSConfig != nil, opt.SentinelAddrs
		d.master = opt.MasterName
	default:
		return Dialer{}, errURL
	}
	d.scheme, d.network, d.tls = scheme, "tcp", secure
	if scheme == "unix" {
		d.network = "unix"
	}
	if len(addrs) > 0 {
		d.addr = addrs[0]
	}
	return d, nil
}
