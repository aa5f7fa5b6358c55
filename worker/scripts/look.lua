#!lua flags=allow-oom
-- Say when the org needs somebody and what it waits for, for the sweep that heals lost hints. On a full
-- server as well: it only ever takes away.
-- KEYS[1]  the org's slot
-- ARGV[1]  JSON: cfg of the gate
-- Returns  JSON: {at, why}; at in ms, -1 never
-- Repeated: changes nothing but ids in the queue whose jobs were dealt with otherwise.
local cfg = cjson.decode(ARGV[1])
local gate = read_gate(cfg)
local at, why = when(cfg, gate)
return cjson.encode({at = next_look(at), why = why})
