// Package standard registers the built-in fallback strategies. Import it for this effect only.
package standard

import (
	"cbproxy/fallbacks"
	"cbproxy/fallbacks/cache"
	"cbproxy/fallbacks/endpoint"
	"cbproxy/fallbacks/queue"
	"cbproxy/fallbacks/static"
	"cbproxy/fallbacks/template"
	"cbproxy/fallbacks/upstream"
)

func init() {
	fallbacks.Register("cache", fallbacks.Factory[cache.Options]{Defaults: cache.DefaultOptions, New: cache.New, Inline: true})
	fallbacks.Register("http", fallbacks.Factory[endpoint.Options]{Defaults: endpoint.DefaultOptions, New: endpoint.New, Inline: true})
	fallbacks.Register("queue", fallbacks.Factory[queue.Options]{Defaults: queue.DefaultOptions, New: queue.New, Inline: true})
	fallbacks.Register("static", fallbacks.Factory[static.Options]{Defaults: static.DefaultOptions, New: static.New, Inline: true})
	fallbacks.Register("template", fallbacks.Factory[template.Options]{Defaults: template.DefaultOptions, New: template.New, Inline: true})
	fallbacks.Register("upstream", fallbacks.Factory[upstream.Options]{Defaults: upstream.DefaultOptions, New: upstream.New, Inline: true})
}
