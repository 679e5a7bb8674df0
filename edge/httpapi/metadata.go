package httpapi

import (
	"net/http"

	"github.com/edged-io/edged/edge/metadata"
)

// metadata answers GET /v1.0/metadata and PUT /v1.0/metadata/<attribute>.
func (a *api) metadata(c *call) bool {
	var s [1]string
	n, ok := c.segments(s[:])
	switch {
	case !ok || !c.stable():
		return false
	case n == 0 && c.r.Method == http.MethodGet:
		a.sendValue(c.w, http.StatusOK, metadataAnswer(a.Metadata.Get()))
	case n == 1 && c.r.Method == http.MethodPut:
		body, err := a.readBody(c.r)
		if err != nil {
			a.fail(c.w, err)
			return true
		}
		a.Metadata.Set(s[0], string(body.b))
		body.free()
		sendEmpty(c.w)
	default:
		return false
	}
	return true
}

// The metadata answer in Dapr's JSON. Members that are absent in daprd's answer are absent here.
type (
	metadataJSON struct {
		ID             string             `json:"id,omitempty"`
		RuntimeVersion string             `json:"runtimeVersion,omitempty"`
		Features       []string           `json:"enabledFeatures,omitempty"`
		ActiveActors   []actorTypeJSON    `json:"actors,omitempty"`
		Components     []componentJSON    `json:"components,omitempty"`
		Extended       map[string]string  `json:"extended,omitempty"`
		Subscriptions  []subscriptionJSON `json:"subscriptions,omitempty"`
		HTTPEndpoints  []nameJSON         `json:"httpEndpoints,omitempty"`
		App            appJSON            `json:"appConnectionProperties,omitzero"`
		Actors         actorsJSON         `json:"actorRuntime,omitzero"`
		Scheduler      *schedulerJSON     `json:"scheduler,omitempty"`
		Workflows      workflowsJSON      `json:"workflows,omitzero"`
		MCPServers     []nameJSON         `json:"mcpServers,omitempty"`
		WorkflowPolicy []nameJSON         `json:"workflowAccessPolicies,omitempty"`
		Resiliencies   []nameJSON         `json:"resiliencies,omitempty"`
	}
	nameJSON struct {
		Name string `json:"name,omitempty"`
	}
	componentJSON struct {
		Name         string   `json:"name,omitempty"`
		Type         string   `json:"type,omitempty"`
		Version      string   `json:"version,omitempty"`
		Capabilities []string `json:"capabilities,omitempty"`
	}
	actorTypeJSON struct {
		Type  string `json:"type,omitempty"`
		Count int    `json:"count,omitempty"`
	}
	actorsJSON struct {
		Status    string          `json:"runtimeStatus"`
		Active    []actorTypeJSON `json:"activeActors,omitempty"`
		HostReady bool            `json:"hostReady"`
		Placement string          `json:"placement,omitempty"`
	}
	subscriptionJSON struct {
		PubSub          string            `json:"pubsubname"`
		Topic           string            `json:"topic"`
		Metadata        map[string]string `json:"metadata,omitempty"`
		Rules           []ruleJSON        `json:"rules,omitempty"`
		DeadLetterTopic string            `json:"deadLetterTopic"`
		Kind            string            `json:"type"`
	}
	ruleJSON struct {
		Match string `json:"match,omitempty"`
		Path  string `json:"path,omitempty"`
	}
	appJSON struct {
		Port           int         `json:"port,omitempty"`
		Protocol       string      `json:"protocol,omitempty"`
		Address        string      `json:"channelAddress,omitempty"`
		MaxConcurrency int         `json:"maxConcurrency,omitempty"`
		Health         *healthJSON `json:"health,omitempty"`
	}
	healthJSON struct {
		Path      string `json:"healthCheckPath,omitempty"`
		Interval  string `json:"healthProbeInterval,omitempty"`
		Timeout   string `json:"healthProbeTimeout,omitempty"`
		Threshold int    `json:"healthThreshold,omitempty"`
	}
	schedulerJSON struct {
		Addresses []string `json:"connected_addresses,omitempty"`
	}
	workflowsJSON struct {
		Workers int `json:"connectedWorkers,omitempty"`
	}
)

func metadataAnswer(r metadata.Report) metadataJSON {
	m := metadataJSON{
		ID: r.ID, RuntimeVersion: r.RuntimeVersion, Features: r.Features, Extended: r.Extended,
		Actors:         actorsJSON{Status: r.Actors.Status, HostReady: r.Actors.HostReady, Placement: r.Actors.Placement},
		Workflows:      workflowsJSON{Workers: r.Workers},
		HTTPEndpoints:  names(r.HTTPEndpoints),
		MCPServers:     names(r.MCPServers),
		WorkflowPolicy: names(r.WorkflowPolicy),
		Resiliencies:   names(r.Resiliencies),
		App: appJSON{
			Port: r.App.Port, Protocol: r.App.Protocol, Address: r.App.Address, MaxConcurrency: r.App.MaxConcurrency,
		},
	}
	if h := r.App.Health; h != nil {
		m.App.Health = &healthJSON{Path: h.Path, Interval: h.Interval, Timeout: h.Timeout, Threshold: h.Threshold}
	}
	for _, t := range r.Actors.Active {
		m.Actors.Active = append(m.Actors.Active, actorTypeJSON(t))
	}
	m.ActiveActors = m.Actors.Active
	for _, c := range r.Components {
		m.Components = append(m.Components, componentJSON(c))
	}
	for _, s := range r.Subscriptions {
		m.Subscriptions = append(m.Subscriptions, subscriptionAnswer(s))
	}
	if len(r.Scheduler) > 0 {
		m.Scheduler = &schedulerJSON{Addresses: r.Scheduler}
	}
	return m
}

func subscriptionAnswer(s metadata.Subscription) subscriptionJSON {
	out := subscriptionJSON{
		PubSub: s.PubSub, Topic: s.Topic, Metadata: s.Metadata, DeadLetterTopic: s.DeadLetterTopic, Kind: s.Kind,
	}
	for _, r := range s.Rules {
		out.Rules = append(out.Rules, ruleJSON(r))
	}
	return out
}

func names(in []string) []nameJSON {
	var out []nameJSON
	for _, name := range in {
		out = append(out, nameJSON{name})
	}
	return out
}
