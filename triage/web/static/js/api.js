// Talking to the server: CSRF token on every act, problems as errors with words and a reference.

import { t } from "./words.js";

const token = document.querySelector('meta[name="csrf-token"]')?.content ?? "";

export class Problem extends Error {
  constructor(status, body) {
    const readOnly = body.type?.endsWith("#read-only");
    super(readOnly ? t("The database takes no writes: nothing was changed. Call by phone.") : body.detail || body.title || t("Error %(n)s", { n: status }));
    this.status = status;
    this.body = body;
    this.reference = body.reference ?? "";
  }
}

/** A changed row says its version; a request made by nobody's hand says so, and keeps no session alive. */
export async function ask(path, { method = "GET", body, version, background = false, headers = {} } = {}) {
  const sent = { Accept: "application/json", ...headers };
  if (method !== "GET") sent["X-CSRF-Token"] = token;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  if (version !== undefined) sent["If-Match"] = `"${version}"`;
  if (background) sent["X-Triage-Background"] = "1";
  let response;
  try {
    response = await fetch(path, {
      method, headers: sent, body: body === undefined ? undefined : JSON.stringify(body), redirect: "manual",
    });
  } catch {
    throw new Problem(0, { detail: navigator.onLine ? t("The server does not answer.") : t("Offline.") });
  }
  if (response.type === "opaqueredirect" || response.status === 401) {
    location.reload(); // the session ended: the server leads to the sign-in page
    throw new Problem(401, { detail: t("The session has ended.") });
  }
  if (response.status === 204 || response.status === 304) return { status: response.status, headers: response.headers };
  const kind = response.headers.get("Content-Type") ?? "";
  const said = kind.includes("json") ? await response.json() : { text: await response.text() };
  if (!response.ok) throw new Problem(response.status, said.text === undefined ? said : { title: "", reference: response.headers.get("X-Reference") });
  return { status: response.status, headers: response.headers, said };
}

export const act = (path, body = {}, options = {}) => ask(path, { method: "POST", body, ...options });
