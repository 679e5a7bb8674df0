package resource

import "strings"

// Permits reports whether applications may use a part of the API over a protocol (http or grpc): a name such as state and
// a version such as v1 or v1.0-alpha1, as Dapr's Configuration spec.api names them. What is denied is never permitted;
// if anything is allowed for the protocol, only that is. A nil APIAccess permits everything.
func (a *APIAccess) Permits(protocol, version, name string) bool {
	if a == nil || matches(a.Denied, protocol, version, name) {
		return a == nil
	}
	for _, r := range a.Allowed {
		if strings.EqualFold(r.Protocol, protocol) {
			return matches(a.Allowed, protocol, version, name)
		}
	}
	return true
}

func matches(rules []APIRule, protocol, version, name string) bool {
	for _, r := range rules {
		if strings.EqualFold(r.Protocol, protocol) && r.Name == name && shortVersion(r.Version) == shortVersion(version) {
			return true
		}
	}
	return false
}

// shortVersion turns a version of the HTTP API's paths, such as v1.0-alpha1, into that of rules, such as v1alpha1.
func shortVersion(v string) string {
	if rest, ok := strings.CutPrefix(v, "v1.0"); ok {
		return "v1" + strings.TrimPrefix(rest, "-")
	}
	return v
}
