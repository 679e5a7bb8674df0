package pubsub

import "strings"

// Component properties that say who may use which topic. Names ignore case, and spaces in values do not count.
const (
	allowedTopics      = "allowedTopics"      // a,b: no others exist
	protectedTopics    = "protectedTopics"    // a,b: only for applications that a scope names
	publishingScopes   = "publishingScopes"   // app1=a,b;app2=: what each may publish to; not listed: everything
	subscriptionScopes = "subscriptionScopes" // likewise for subscriptions
)

// topicAllowed reports whether the application may publish or subscribe (scope says which) to the topic.
func topicAllowed(properties map[string]string, scope, app, topic string) bool {
	var allowed, protected, scoped string
	for k, v := range properties {
		switch {
		case strings.EqualFold(k, allowedTopics):
			allowed = v
		case strings.EqualFold(k, protectedTopics):
			protected = v
		case strings.EqualFold(k, scope):
			scoped = v
		}
	}
	if allowed != "" && !listed(allowed, topic) {
		return false
	}
	restricted, permitted := inScope(scoped, app, topic)
	if !restricted && (protected == "" || !listed(protected, topic)) {
		return true
	}
	return permitted
}

// listed reports whether a comma-separated list has the topic.
func listed(list, topic string) bool {
	for item := range strings.SplitSeq(withoutSpaces(list), ",") {
		if item == topic {
			return true
		}
	}
	return false
}

// inScope reports whether the scopes name the application, and whether they let it use the topic.
func inScope(scopes, app, topic string) (restricted, permitted bool) {
	if scopes == "" {
		return false, false
	}
	for entry := range strings.SplitSeq(withoutSpaces(scopes), ";") {
		name, topics, ok := strings.Cut(entry, "=")
		if !ok || name != app {
			continue
		}
		topics, _, _ = strings.Cut(topics, "=")
		restricted = true
		permitted = permitted || listed(topics, topic)
	}
	return restricted, permitted
}

func withoutSpaces(s string) string {
	if strings.IndexByte(s, ' ') < 0 {
		return s
	}
	return strings.ReplaceAll(s, " ", "")
}

// property returns a component property, whose name ignores case.
func property(properties map[string]string, name string) string {
	if v, ok := properties[name]; ok {
		return v
	}
	for k, v := range properties {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}
