// The one attention function: see attention.hpp. Scores of 16 keys at a time, a softmax over all
// keys of the row in one fixed order, then the values key by key.
#include <algorithm>

#include "conclave/base/aligned.hpp"
#include "conclave/model/attention.hpp"

namespace conclave::model {
namespace {

struct Head {
  const AttendCall& call;
  const kernels::KernelTable& kernels;
  std::uint32_t kv_head;
  float sink;
  bool has_sink;
};

void attend_one(const Head& head, const RowPlace& place, const float* q, float* scores,
                float* out) {
  const AttentionConfig& attention = head.call.config->attention;
  const std::uint32_t layer = head.call.layer;
  const std::uint32_t window = head.call.config->window(layer);
  const std::uint32_t end = place.position + 1;
  const std::uint32_t begin = window != 0 && end > window ? end - window : 0;
  const std::uint32_t first_block = begin / kKvBlockTokens;
  const std::uint32_t last_block = place.position / kKvBlockTokens;
  // scores[t - origin] belongs to position t.
  const std::uint32_t origin = first_block * kKvBlockTokens;
  for (std::uint32_t block = first_block; block <= last_block; ++block) {
    head.kernels.key_scores(q, head.call.pool->keys(place.blocks[block], layer, head.kv_head),
                            attention.key_dim, attention.scale,
                            scores + (block * kKvBlockTokens - origin));
  }

  float* seen = scores + (begin - origin);
  float shift = head.kernels.max(seen, end - begin);
  if (head.has_sink) shift = std::max(shift, head.sink);
  float sum = head.kernels.exp_sum(seen, end - begin, shift);
  if (head.has_sink) {
    float sink = head.sink;
    sum += head.kernels.exp_sum(&sink, 1, shift);
  }

  std::fill_n(out, attention.value_dim, 0.0f);
  for (std::uint32_t block = first_block; block <= last_block; ++block) {
    const std::uint32_t start = block * kKvBlockTokens;
    const std::uint32_t from = std::max(begin, start) - start;
    const std::uint32_t to = std::min(end, start + kKvBlockTokens) - start;
    head.kernels.add_values(scores + (start - origin),
                            head.call.pool->values(place.blocks[block], layer, head.kv_head), from,
                            to, attention.value_dim, out);
  }
  const float inverse = 1.0f / sum;
  for (std::uint32_t d = 0; d < attention.value_dim; ++d) out[d] *= inverse;
}

}  // namespace

void attend(const kernels::Compute& compute, const AttendCall& call) {
  const AttentionConfig& attention = call.config->attention;
  const std::uint32_t group = attention.heads / attention.kv_heads;
  std::uint32_t longest = 0;
  for (const RowPlace& place : call.places) longest = std::max(longest, place.position + 1);
  const std::size_t room = longest + 2 * std::size_t{kKvBlockTokens};
  base::AlignedVector<float> scores(room * compute.pool.threads());

  compute.pool.for_each(call.places.size() * attention.heads, [&](std::size_t i, unsigned thread) {
    const auto h = static_cast<std::uint32_t>(i % attention.heads);
    const bool has_sink = !call.sinks.empty();
    const Head head{call, compute.kernels, h / group, has_sink ? call.sinks[h] : 0.0f, has_sink};
    attend_one(head, call.places[i / attention.heads], call.q + i * attention.key_dim,
               scores.data() + room * thread, call.out + i * attention.value_dim);
  });
}

}  // namespace conclave::model
