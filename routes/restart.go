package routes

// RestartKeys returns the keys whose values differ between old and c and take effect only
// after a restart, in the order of the file.
func (c *Config) RestartKeys(old *Config) []string {
	var keys []string
	add := func(key string, changed bool) {
		if changed {
			keys = append(keys, key)
		}
	}
	add("listen", c.Listen != old.Listen)
	add("server", c.Server != old.Server)
	add("data_dir", c.DataDir != old.DataDir)
	add("limits.header_bytes", c.Limits.HeaderBytes != old.Limits.HeaderBytes)
	add("limits.read_header_timeout", c.Limits.ReadHeaderTimeout != old.Limits.ReadHeaderTimeout)
	add("limits.idle_timeout", c.Limits.IdleTimeout != old.Limits.IdleTimeout)
	add("admin.listen", c.Admin.Listen != old.Admin.Listen)
	add("admin.tls", c.Admin.TLS != old.Admin.TLS)
	add("redis.url", c.Redis.URL != old.Redis.URL)
	add("redis.namespace", c.Redis.Namespace != old.Redis.Namespace)
	add("redis.tls", c.Redis.TLS != old.Redis.TLS)
	return keys
}
