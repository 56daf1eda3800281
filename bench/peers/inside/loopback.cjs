// Preloaded before Portkey's gateway, which has no option for its host and would listen on every interface.
const { Server } = require("node:net");

const listen = Server.prototype.listen;
Server.prototype.listen = function (port, host, ...rest) {
  const named = typeof host === "string" || typeof port !== "number";
  if (named) return listen.call(this, port, host, ...rest);
  const more = [host, ...rest].filter((one) => one !== undefined);
  return listen.call(this, port, "127.0.0.1", ...more);
};
