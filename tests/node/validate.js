// Judges FHIR resources by the npm package `fhir`: codes, missing and unknown elements. Exit 1 with what is wrong.
const { readFileSync } = require("node:fs");
const { Fhir } = require("fhir");

const judge = new Fhir();
let wrong = 0;
for (const resource of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  const said = judge.validate(resource, { errorOnUnexpected: true });
  for (const message of said.messages) {
    if (message.severity !== "error" && message.severity !== "fatal") continue;
    console.log(resource.resourceType, resource.id ?? "", message.location, message.message);
    wrong += 1;
  }
}
process.exit(wrong ? 1 : 0);
