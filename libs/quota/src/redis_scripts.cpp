#include "redis_scripts.hpp"

namespace conclave::quota {

// Days to dates as in http://howardhinnant.github.io/date_algorithms.html (civil_from_days).
const std::string kMonthOf = R"lua(
local function month_of(day)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
                          - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400
  if month <= 2 then year = year + 1 end
  return year * 12 + month - 1
end
)lua";

namespace {

// Before Redis 7 a script that asks for the time must say that its effects are to be replicated.
const std::string kPrelude = R"lua(
if redis.replicate_commands then redis.replicate_commands() end
local function num(v) return tonumber(v or 0) or 0 end
local function text(v) return string.format('%.0f', v) end
local function now_ms()
  local t = redis.call('TIME')
  return num(t[1]) * 1000 + math.floor(num(t[2]) / 1000)
end
)lua";

}  // namespace

// A day's and a month's counts are kept past the longest month, others past their minute.
const std::string kTakeScript = kPrelude + kMonthOf + R"lua(
local rpm, tpm, tpd, tpm2, most = num(ARGV[1]), num(ARGV[2]), num(ARGV[3]), num(ARGV[4]), num(ARGV[5])
local cost, ttl = num(ARGV[6]), num(ARGV[8])
local told_day, told_dt, told_mt = num(ARGV[9]), num(ARGV[10]), num(ARGV[11])
local now = now_ms()
local h = redis.call('HMGET', KEYS[1], 'w', 'r', 't', 'd', 'dt', 'm', 'mt')
local w, r, t, dt, mt = num(h[1]), num(h[2]), num(h[3]), num(h[5]), num(h[7])
if now - w >= 60000 or now < w then w, r, t = now, 0, 0 end
local day = math.floor(now / 86400000)
local month = month_of(day)
if num(h[4]) ~= day then dt = 0 end
if num(h[6]) ~= month then mt = 0 end
if told_day == day then dt = math.max(dt, told_dt) end
if month_of(told_day) == month then mt = math.max(mt, told_mt) end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', text(now))
local open = redis.call('ZCARD', KEYS[2])
local refusal = 0
if tpm2 > 0 and mt + cost > tpm2 then refusal = 4
elseif tpd > 0 and dt + cost > tpd then refusal = 3
elseif rpm > 0 and r + 1 > rpm then refusal = 1
elseif tpm > 0 and t + cost > tpm then refusal = 2
elseif most > 0 and open + 1 > most then refusal = 5 end
if refusal == 0 then
  r, t, dt, mt = r + 1, t + cost, dt + cost, mt + cost
  redis.call('HSET', KEYS[1], 'w', text(w), 'r', text(r), 't', text(t), 'd', text(day),
             'dt', text(dt), 'm', text(month), 'mt', text(mt))
  redis.call('PEXPIRE', KEYS[1], (tpd > 0 or tpm2 > 0) and 2764800000 or 120000)
  if most > 0 then
    redis.call('ZADD', KEYS[2], text(now + ttl), ARGV[7])
    redis.call('PEXPIRE', KEYS[2], text(ttl))
    open = open + 1
  end
end
return {refusal, now, w, r, t, day, dt, month, mt, open}
)lua";

// HSET of a hash that is there leaves its expiry; of one that is not there nothing matches.
const std::string kSettleScript = kPrelude + R"lua(
local h = redis.call('HMGET', KEYS[1], 'w', 't', 'd', 'dt', 'm', 'mt')
local by = num(ARGV[5])
local function change(field, is, was, value)
  if not is or num(is) ~= num(was) then return end
  redis.call('HSET', KEYS[1], field, text(math.max(0, num(value) + by)))
end
change('t', h[1], ARGV[2], h[2])
change('dt', h[3], ARGV[3], h[4])
change('mt', h[5], ARGV[4], h[6])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
)lua";

const std::string kRenewScript = kPrelude + R"lua(
local ttl = num(ARGV[1])
local at = text(now_ms() + ttl)
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], at, ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], text(ttl))
return 1
)lua";

}  // namespace conclave::quota
