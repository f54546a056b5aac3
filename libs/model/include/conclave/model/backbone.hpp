// All of a model but its routed experts: what a router loads. It runs everything around the experts
// of a layer; the engine puts the expert outputs in between.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/kernels/matmul.hpp"
#include "conclave/model/attention.hpp"
#include "conclave/model/config.hpp"
#include "conclave/model/experts.hpp"
#include "conclave/model/gate.hpp"
#include "conclave/model/linear.hpp"
#include "conclave/model/rope.hpp"

namespace conclave::model {

/// A dense feed-forward network: of leading layers, or the shared experts together.
struct FeedForward {
  Linear gate;
  Linear up;
  Linear down;
};

/// The rows of a pass, or those of one micro-batch of it, between the calls of a Backbone. Whoever
/// has several of them at hand lets each wait for its experts while others go on. Reusable.
class BackboneStep {
 public:
  BackboneStep() = default;
  BackboneStep(const BackboneStep&) = delete;
  BackboneStep& operator=(const BackboneStep&) = delete;

  /// From here on it is for all rows, or again for those that pass through all layers.
  void use_rows(bool all) {
    now_ = all || through_.places.size() == all_.places.size() ? &all_ : &through_;
    rows_ = now_->places.size();
  }
  /// From here on it is for the first `count` rows of x and h, whichever the caller has put there:
  /// until use_rows(), and for all but attention.
  void use_first_rows(std::size_t count) { rows_ = count; }

 private:
  friend class Backbone;

  // Rows that take part in a layer.
  struct Rows {
    std::span<const RowPlace> places;
    StepPlan plan;
  };

  std::vector<RowPlace> places_;
  Rows all_, through_;
  Rows* now_ = &all_;
  std::size_t rows_ = 0;
  const KvPool* pool_ = nullptr;
  std::vector<float> cos_, sin_;
};

/// One user at a time: scratch room is inside. The file must outlive it (embeddings stay mapped).
class Backbone {
 public:
  /// Errors as read_config; kCorruptData names the tensor. `compute` must outlive the object.
  static base::Result<std::unique_ptr<Backbone>> load(const gguf::File& file,
                                                      const ModelConfig& config,
                                                      const kernels::Compute& compute,
                                                      const Progress& progress);

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  /// Bytes of packed weights, embeddings not counted.
  [[nodiscard]] std::size_t bytes() const;

  /// x (rows, hidden) = embeddings of tokens below config().vocab (checked).
  void embed(std::span<const std::int32_t> tokens, float* x) const;

  /// Makes `step` one of these rows, whose blocks are in `pool` and must stay until it is over, and
  /// computes the rotation angles of their positions for all layers. What follows is for the first
  /// `through` of them until use_rows() says otherwise.
  void begin_step(BackboneStep& step, std::span<const RowPlace> places, std::size_t through,
                  const KvPool& pool);

  /// x += attention(norm(x)).
  void attention(BackboneStep& step, std::uint32_t layer, float* x);

  /// h (rows, hidden) = norm(x), the input of the layer's feed-forward part.
  void normalize_ffn(const BackboneStep& step, std::uint32_t layer, const float* x, float* h);

  /// The experts of each row of h, without those of `absent` as far as select_present_experts()
  /// does without them; empty: all are there.
  void route(const BackboneStep& step, std::uint32_t layer, const float* h,
             std::span<const std::uint8_t> absent, Routing& routing);

  /// x += the dense network of a leading layer.
  void dense(const BackboneStep& step, std::uint32_t layer, const float* h, float* x);

  /// x += sum over k of weights * outputs, best expert first, then + the shared experts of h.
  /// outputs (rows, k): where each one's `hidden` floats are.
  void combine(const BackboneStep& step, std::uint32_t layer, const Routing& routing,
               std::span<const float* const> outputs, const float* h, float* x);

  /// logits (rows, vocab) of x.
  void logits(std::size_t rows, const float* x, float* logits);

 private:
  struct Layer {
    std::vector<float> attention_norm;
    std::unique_ptr<Attention> attention;
    std::vector<float> ffn_norm;
    Linear gate;                     // empty in dense layers
    std::vector<float> gate_choice;  // bias on the choice, or empty
    FeedForward ffn;                 // dense or shared; empty: none
    Linear shared_gate;              // one output before a sigmoid, or empty
  };

  Backbone(const gguf::File& file, const ModelConfig& config, const kernels::Compute& compute);

  base::Status load_globals(const TensorReader& reader);
  base::Result<Layer> load_layer(const TensorReader& reader, std::uint32_t index) const;
  base::Status load_ffn(const TensorReader& reader, std::uint32_t index, Layer& layer) const;
  /// out (rows, hidden) = norm(x).
  void normalize(const std::vector<float>& weight, std::size_t rows, const float* x, float* out);
  /// out_ (rows, hidden) = the layer's dense or shared network of h.
  void feed_forward(const FeedForward& ffn, std::size_t rows, const float* h);
  /// x += out_.
  void add_out(std::size_t rows, float* x);

  const gguf::File& file_;
  ModelConfig config_;
  kernels::Compute compute_;
  const gguf::TensorInfo* embedding_ = nullptr;
  std::unique_ptr<Rope> rope_;
  std::vector<Layer> layers_;
  std::vector<float> output_norm_;
  Linear head_;

  // Room for the call at hand.
  AttentionScratch scratch_;
  base::AlignedVector<float> normed_, out_, gate_, up_, router_logits_, share_;
  kernels::QuantizedRows quantized_;
};

}  // namespace conclave::model
