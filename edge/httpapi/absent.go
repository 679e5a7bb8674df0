package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/edged-io/edged/edge/fault"
)

// absent answers calls of blocks that daprd has and that are not configured here, with the error that daprd gives then.
func (a *api) absent(c *call) bool {
	var s [5]string
	n, ok := c.segments(s[:])
	if !ok || n == 0 {
		return false
	}
	switch c.block {
	case "bindings":
		return n == 1 && c.stable() && c.writes() && a.afterJSON(c, &struct {
			Metadata  map[string]string
			Data      json.RawMessage
			Operation string
		}{}, fault.BindingNotFound(s[0]))
	case "configuration":
		return a.absentConfiguration(c, s[:n])
	case "lock", "unlock":
		return n == 1 && c.is("v1.0-alpha1", http.MethodPost) && a.absentLock(c, s[0])
	case "crypto":
		known := s[1] == "encrypt" || s[1] == "decrypt"
		return n == 2 && known && c.is("v1.0-alpha1", http.MethodPut) && a.refuse(c, fault.CryptoNotConfigured())
	case "subtlecrypto":
		return n == 2 && subtleOperation(s[1]) && c.is("v1.0-alpha1", http.MethodPost) && a.afterObject(c, &struct{}{}, fault.APIUnimplemented())
	case "conversation":
		known := c.version == "v1.0-alpha1" || c.version == "v1.0-alpha2"
		return n == 2 && s[1] == "converse" && known && c.r.Method == http.MethodPost &&
			a.afterObject(c, &struct{}{}, fault.ConversationNotFound(s[0]))
	case "actors":
		return c.stable() && a.absentActors(c, s[:n])
	case "workflows":
		return a.absentWorkflows(c, s[:n])
	case "jobs":
		return n == 1 && (c.stable() || c.version == "v1.0-alpha1") && a.absentJobs(c, s[0])
	}
	return false
}

func (a *api) refuse(c *call, err error) bool {
	a.fail(c.w, err)
	return true
}

// afterJSON refuses the call with then, unless already its body is not the JSON of into.
func (a *api) afterJSON(c *call, into any, then error) bool {
	body, err := a.readBody(c.r)
	if err != nil {
		return a.refuse(c, err)
	}
	defer body.free()
	if err := json.NewDecoder(bytes.NewReader(body.b)).Decode(into); err != nil {
		return a.refuse(c, fault.MalformedRequest(err))
	}
	return a.refuse(c, then)
}

// afterObject is afterJSON for calls whose body may be left out.
func (a *api) afterObject(c *call, into any, then error) bool {
	err := a.readObject(c, into)
	if err == nil {
		err = then
	}
	return a.refuse(c, err)
}

func (a *api) readObject(c *call, into any) error {
	body, err := a.readBody(c.r)
	if err != nil {
		return err
	}
	defer body.free()
	if len(body.b) == 0 {
		return nil
	}
	if err := json.Unmarshal(body.b, into); err != nil {
		return fault.MalformedRequest(err)
	}
	return nil
}

func (a *api) absentConfiguration(c *call, s []string) bool {
	known := len(s) == 1 || len(s) == 2 && s[1] == "subscribe" || len(s) == 3 && s[2] == "unsubscribe"
	return known && (c.stable() || c.version == "v1.0-alpha1") && c.r.Method == http.MethodGet &&
		a.refuse(c, fault.ConfigurationNotConfigured())
}

func (a *api) absentLock(c *call, store string) bool {
	var request struct {
		ResourceID      string `json:"resourceId"`
		LockOwner       string `json:"lockOwner"`
		ExpiryInSeconds int32  `json:"expiryInSeconds"`
	}
	err := a.readObject(c, &request)
	switch {
	case err != nil:
	case c.block == "lock" && request.ExpiryInSeconds <= 0:
		err = fault.LockExpiry(store)
	default:
		err = fault.LockNotConfigured()
	}
	return a.refuse(c, err)
}

func subtleOperation(operation string) bool {
	switch operation {
	case "getkey", "encrypt", "decrypt", "wrapkey", "unwrapkey", "sign", "verify":
		return true
	}
	return false
}

// reservedActors is how the names of the workflow engine's actor types begin.
const reservedActors = "dapr.internal."

func (a *api) absentActors(c *call, s []string) bool {
	if !actorCall(c, s) {
		return false
	}
	off := fault.ActorNoPlacement()
	if s[2] != "method" && strings.HasPrefix(s[0], reservedActors) {
		return a.refuse(c, fault.ActorTypeReserved(s[0]))
	}
	switch {
	case c.writes() && s[2] == "state":
		var operations []json.RawMessage
		return a.afterJSON(c, &operations, off)
	case c.writes() && (s[2] == "reminders" || s[2] == "timers"):
		var object map[string]json.RawMessage
		return a.afterJSON(c, &object, off)
	}
	return a.refuse(c, off)
}

// actorCall reports whether /v1.0/actors/<type>/<id>/... is a call that the actor API has.
func actorCall(c *call, s []string) bool {
	get, del := c.r.Method == http.MethodGet, c.r.Method == http.MethodDelete
	if len(s) == 3 {
		return s[2] == "state" && c.writes()
	}
	if len(s) != 4 {
		return false
	}
	switch s[2] {
	case "state":
		return get
	case "method":
		return get || del || c.writes()
	case "reminders":
		return get || del || c.writes()
	case "timers":
		return del || c.writes()
	}
	return false
}

func (a *api) absentWorkflows(c *call, s []string) bool {
	if !c.stable() && c.version != "v1.0-alpha1" && c.version != "v1.0-beta1" {
		return false
	}
	off := fault.ActorNoPlacement()
	post := c.r.Method == http.MethodPost
	switch {
	case len(s) == 2 && c.r.Method == http.MethodGet:
	case len(s) == 4 && s[2] == "raiseEvent" && post:
	case len(s) == 3 && s[2] == "start" && post:
	case len(s) == 3 && (s[2] == "pause" || s[2] == "resume" || s[2] == "terminate" || s[2] == "purge") && post:
		return a.afterObject(c, &struct{}{}, off)
	default:
		return false
	}
	return a.refuse(c, off)
}

func (a *api) absentJobs(c *call, name string) bool {
	switch c.r.Method {
	case http.MethodGet:
		return a.refuse(c, fault.JobGetOff(a.AppID, a.Namespace))
	case http.MethodDelete:
		return a.refuse(c, fault.JobDeleteOff(a.AppID, a.Namespace))
	case http.MethodPost:
	default:
		return false
	}
	var job struct{ Name, Schedule, DueTime string }
	err := a.readObject(c, &job)
	switch {
	case err != nil:
	case job.Name != "":
		err = fault.JobNameTwice(a.AppID)
	case strings.TrimSpace(name) == "":
		err = fault.JobNameEmpty(a.AppID, a.Namespace)
	case job.Schedule == "" && job.DueTime == "":
		err = fault.JobScheduleEmpty(a.AppID, a.Namespace)
	default:
		err = fault.JobScheduleOff(a.AppID, a.Namespace)
	}
	return a.refuse(c, err)
}
