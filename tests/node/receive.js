// An HL7 receiver of another make: prints its port, then each message that it took, as JSON lines.
const { Server } = require("node-hl7-server");

const server = new Server({ bindAddress: "127.0.0.1" });
const port = Number(process.argv[2]);
server.createInbound({ port }, async (request, response) => {
  const message = request.getMessage();
  console.log(JSON.stringify({ type: message.get("MSH.9.1").toString(), control: message.get("MSH.10").toString(), name: message.get("PID.5.1").toString() }));
  await response.sendResponse("AA");
});
console.log("ready");
