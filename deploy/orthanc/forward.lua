-- Forward every object to triage as it arrives: a film is flagged within a second, a CT as soon as it is whole.
function OnStoredInstance(instanceId, tags, metadata, origin)
  if origin["RequestOrigin"] ~= "Lua" then
    SendToModality(instanceId, "triage")
  end
end
