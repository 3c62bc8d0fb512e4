-- What wrk sends, and what it prints when it is done.
--
-- AUTHORIZATION is the header of that name. BODY is the one body that is sent again and again; or BODIES is the path of
-- files with one body a line, `.1` for the first thread, `.2` for the second: each is sent once, all are of one length.

local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

function init(args)
  wrk.method = "POST"
  wrk.headers["Authorization"] = os.getenv("AUTHORIZATION")
  wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
  wrk.body = os.getenv("BODY")
  if os.getenv("BODIES") then
    lines = assert(io.lines(os.getenv("BODIES") .. "." .. number))
    -- The head is made once: every body has the length of the first.
    wrk.body = lines()
    first = wrk.format()
    head = first:sub(1, #first - #wrk.body)
  end
end

if os.getenv("BODIES") then
  function request()
    if first then
      local whole = first
      first = nil
      return whole
    end
    -- When they run out, what is sent is no question, and the count of answers shows it.
    return head .. (lines() or string.rep("x", #wrk.body))
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"micros":%d,"broken":%d,"refused":%d,"p50":%d,"p99":%d,"p999":%d,"max":%d}\n',
    summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.timeout, errors.status,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max))
end
