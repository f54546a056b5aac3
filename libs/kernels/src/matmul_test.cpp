// Matrix products against plain loops over decoded weights, and promise 1: no bit depends on the
// instruction set, on the other rows of a call, on the tiling or on the number of threads.
#include "conclave/kernels/matmul.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace conclave::kernels {
namespace {

using gguf::BlockType;

std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : kIsas) {
    if (supported(isa)) isas.push_back(isa);
  }
  return isas;
}

// Where a block keeps its f16 scales, so that random blocks can be given sane ones.
std::vector<std::size_t> half_offsets(BlockType type) {
  switch (type) {
    case BlockType::kQ8_0:
    case BlockType::kQ4_0:
      return {0};
    case BlockType::kQ4_K:
    case BlockType::kQ5_K:
      return {0, 2};
    case BlockType::kQ6_K:
      return {208};
    default:
      return {};
  }
}

// Random blocks with every bit of the quants in use and scales of about 0.01.
std::vector<std::byte> random_weights(BlockType type, std::size_t values, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<std::byte> data(gguf::bytes_of(type, values).value());
  const gguf::BlockTraits block = gguf::traits(type);
  if (block.elements == 1) {
    for (std::size_t i = 0; i < values; ++i) {
      const float value = uniform(random);
      const std::uint16_t half =
          type == BlockType::kF16 ? gguf::f32_to_f16(value) : gguf::f32_to_bf16(value);
      const void* source = type == BlockType::kF32 ? static_cast<const void*>(&value) : &half;
      std::memcpy(data.data() + i * block.bytes, source, block.bytes);
    }
    return data;
  }
  for (std::byte& byte : data) byte = static_cast<std::byte>(random());
  for (std::size_t at = 0; at < data.size(); at += block.bytes) {
    for (const std::size_t offset : half_offsets(type)) {
      const std::uint16_t half = gguf::f32_to_f16(0.01f * uniform(random));
      std::memcpy(data.data() + at + offset, &half, sizeof half);
    }
    if (type == BlockType::kMXFP4) data[at] = static_cast<std::byte>(118 + random() % 6);
  }
  return data;
}

std::vector<float> random_values(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

// The rows in the form that such weights take.
RowsView rows_for(const Compute& compute, BlockType type, const float* x, std::size_t rows,
                  std::size_t columns, QuantizedRows& room) {
  const std::size_t block = scale_block(type);
  if (block == 0) return {.values = x, .rows = rows, .columns = columns};
  return quantize(compute, x, rows, columns, block, room);
}

struct Multiplication {
  std::size_t outputs;
  std::size_t inputs;
  std::size_t rows;
  std::vector<std::byte> data;
  PackedMatrix weights;
  std::vector<float> x;

  Multiplication(BlockType type, std::size_t outputs_in, std::size_t inputs_in, std::size_t rows_in)
      : outputs(outputs_in),
        inputs(inputs_in),
        rows(rows_in),
        data(random_weights(type, outputs * inputs, 1)),
        weights(PackedMatrix::pack(type, data, outputs, inputs).value()),
        x(random_values(rows * inputs, 2)) {}

  [[nodiscard]] std::vector<float> run(Isa isa, unsigned threads, std::size_t first,
                                       std::size_t count) const {
    base::ThreadPool pool(threads);
    const Compute compute{kernel_table(isa), pool};
    QuantizedRows room;
    const RowsView view =
        rows_for(compute, weights.type(), x.data() + first * inputs, count, inputs, room);
    std::vector<float> y(count * outputs, NAN);
    matmul(compute, weights, view, y.data());
    return y;
  }

  // The plain loops: decoded weights times the rows as the format takes them, in double precision.
  [[nodiscard]] std::vector<double> reference(std::vector<double>& magnitude) const {
    std::vector<float> w(outputs * inputs);
    gguf::dequantize(weights.type(), data, w);
    std::vector<float> rounded = x;
    if (const std::size_t block = scale_block(weights.type()); block > 0) {
      QuantizedRows room;
      base::ThreadPool pool(1);
      quantize({kernel_table(Isa::kScalar), pool}, x.data(), rows, inputs, block, room);
      for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t i = 0; i < inputs; ++i) {
          rounded[row * inputs + i] =
              static_cast<float>(room.quants(row)[i]) * room.scales(row)[i / kRowBlock];
        }
      }
    }
    std::vector<double> y(rows * outputs, 0.0);
    magnitude.assign(rows * outputs, 0.0);
    for (std::size_t row = 0; row < rows; ++row) {
      for (std::size_t o = 0; o < outputs; ++o) {
        for (std::size_t i = 0; i < inputs; ++i) {
          const double term = double{w[o * inputs + i]} * double{rounded[row * inputs + i]};
          y[row * outputs + o] += term;
          magnitude[row * outputs + o] += std::abs(term);
        }
      }
    }
    return y;
  }
};

class MatmulTest : public testing::TestWithParam<BlockType> {
 protected:
  // Two super blocks of a K-quant; an odd number of values for the float formats.
  [[nodiscard]] static std::size_t inputs() {
    const std::uint32_t block = gguf::traits(GetParam()).elements;
    return block == 1 ? 77 : 512;
  }
};

// Formats with quants.
class BlockMatmulTest : public MatmulTest {};

TEST_P(MatmulTest, EqualsPlainLoopsOverDecodedWeights) {
  const Multiplication product(GetParam(), 37, inputs(), 5);
  std::vector<double> magnitude;
  const auto expected = product.reference(magnitude);
  for (const Isa isa : supported_isas()) {
    const auto y = product.run(isa, 1, 0, product.rows);
    for (std::size_t i = 0; i < y.size(); ++i) {
      ASSERT_NEAR(y[i], expected[i], 1e-6 * magnitude[i] + 1e-9) << to_string(isa) << " at " << i;
    }
  }
}

TEST_P(MatmulTest, EveryInstructionSetGivesTheSameBits) {
  // Rows of one tile of any instruction set, of several, and more than are worked on at once.
  for (const std::size_t rows : {11u, 17u, 33u, 64u, 96u, 150u}) {
    const Multiplication product(GetParam(), 37, inputs(), rows);
    const auto scalar = product.run(Isa::kScalar, 1, 0, rows);
    for (const Isa isa : supported_isas()) {
      EXPECT_EQ(product.run(isa, 1, 0, rows), scalar) << to_string(isa) << ", " << rows << " rows";
    }
  }
}

// More inputs, panels and rows than AMX has room for at once (kSupersMax, kPanelsMax and kRowsMax
// of kernels_amx.cpp), in calls that begin anywhere.
TEST_P(MatmulTest, LargeProductsGiveTheSameBits) {
  const Multiplication product(GetParam(), 12 * kPanelOutputs - 11, 10 * 256, 192);
  base::ThreadPool pool(2);
  QuantizedRows room;
  const RowsView view = rows_for({kernel_table(Isa::kScalar), pool}, GetParam(), product.x.data(),
                                 product.rows, product.inputs, room);
  const auto scalar = product.run(Isa::kScalar, 2, 0, product.rows);
  for (const Isa isa : supported_isas()) {
    std::vector<float> y(product.rows * product.outputs, NAN);
    const Product whole{&product.weights, view, nullptr, product.rows, y.data(), product.outputs};
    kernel_table(isa).matmul(whole, 0, 3);
    kernel_table(isa).matmul(whole, 3, product.weights.panels());
    EXPECT_EQ(y, scalar) << to_string(isa);
    EXPECT_EQ(product.run(isa, 1, 0, product.rows), scalar) << to_string(isa);
    for (const std::size_t rows : {9u, 17u, 32u}) {  // whose panels AMX takes far apart
      std::vector<float> few(rows * product.outputs, NAN);
      const Product part{&product.weights, view, nullptr, rows, few.data(), product.outputs};
      kernel_table(isa).matmul(part, 0, product.weights.panels());
      EXPECT_TRUE(std::equal(few.begin(), few.end(), scalar.begin()))
          << to_string(isa) << ", " << rows << " rows";
    }
  }
}

// Up to as many rows as a tile has, of many panels, may be worked on in streams
// (matmul_kernel.hpp), which the number of panels fits or not, and the last of which may be short.
TEST_P(MatmulTest, FewRowsOfManyPanelsGiveTheSameBits) {
  const std::vector<std::uint32_t> index{0, 1, 4, 0, 7, 7, 0, 4, 8};
  for (const auto& [panels, begin] : {std::pair{8u, 0u}, {11u, 0u}, {11u, 1u}}) {
    const Multiplication product(GetParam(), panels * kPanelOutputs - 3, inputs(), index.size());
    base::ThreadPool pool(1);
    QuantizedRows room;
    const RowsView view = rows_for({kernel_table(Isa::kScalar), pool}, GetParam(), product.x.data(),
                                   product.rows, product.inputs, room);
    const auto all = product.run(Isa::kScalar, 1, 0, product.rows);
    const std::size_t stride = product.outputs + 5;
    for (std::size_t rows = 1; rows <= index.size(); ++rows) {
      std::vector<float> expected(rows * stride, -7.0f);
      for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t o = begin * kPanelOutputs; o < product.outputs; ++o) {
          expected[i * stride + o] = all[index[i] * product.outputs + o];
        }
      }
      for (const Isa isa : supported_isas()) {
        std::vector<float> y(rows * stride, -7.0f);
        const Product few{&product.weights, view, index.data(), rows, y.data(), stride};
        kernel_table(isa).matmul(few, begin, panels);
        EXPECT_EQ(y, expected) << to_string(isa) << ", " << rows << " rows, " << panels
                               << " panels from " << begin;
      }
    }
  }
}

// Weights with the largest quants and scales, without mins; of Q6_K those furthest below zero.
void make_largest(Multiplication& product, BlockType type) {
  std::fill(product.data.begin(), product.data.end(), std::byte{0xFF});
  const gguf::BlockTraits block = gguf::traits(type);
  for (std::size_t at = 0; at < product.data.size(); at += block.bytes) {
    for (const std::size_t offset : half_offsets(type)) {
      const std::uint16_t half = gguf::f32_to_f16(offset == 2 ? 0.0f : 0.01f);
      std::memcpy(product.data.data() + at + offset, &half, sizeof half);
    }
    if (type == BlockType::kMXFP4) product.data[at] = std::byte{120};
    if (type == BlockType::kQ6_K) {  // scales of -128 and quants of -32
      std::fill_n(product.data.begin() + std::ptrdiff_t(at), 192, std::byte{0});
      std::fill_n(product.data.begin() + std::ptrdiff_t(at) + 192, 16, std::byte{0x80});
    }
  }
  product.weights = PackedMatrix::pack(type, product.data, product.outputs, product.inputs).value();
}

// The largest sums that a format can have: of K-quants these are more than a float holds exactly.
TEST_P(BlockMatmulTest, TheLargestSumsAreExact) {
  Multiplication product(GetParam(), 16, inputs(), 9);
  std::fill(product.x.begin(), product.x.end(), 1.0f);
  make_largest(product, GetParam());
  std::vector<double> magnitude;
  const auto expected = product.reference(magnitude);
  const auto scalar = product.run(Isa::kScalar, 1, 0, product.rows);
  for (std::size_t i = 0; i < scalar.size(); ++i) {
    ASSERT_NEAR(scalar[i], expected[i], 3e-7 * magnitude[i]);
  }
  for (const Isa isa : supported_isas()) {
    for (const std::size_t rows : {product.rows, std::size_t{4}}) {
      const std::vector<float> same(scalar.begin(),
                                    scalar.begin() + std::ptrdiff_t(rows * product.outputs));
      EXPECT_EQ(product.run(isa, 1, 0, rows), same) << to_string(isa) << ", " << rows << " rows";
    }
  }
}

// Rows that are as wide as sums of 16 bits allow (RowSums::wide), and a bit wider, with the largest
// weights: of one kind and of several, picked by an index or not, in calls of so many panels that
// they go in sets and streams, and one more.
TEST_P(BlockMatmulTest, RowsAtTheLimitOfNarrowOnesGiveTheSameBits) {
  struct Limit {
    std::size_t count;  // of quants of 127
    float rest;         // the quant behind them
  };
  const std::vector<Limit> limits{{8, 7}, {8, 8}, {17, 25}, {17, 26}};
  Multiplication product(GetParam(), 9 * kPanelOutputs, inputs(), 80);
  make_largest(product, GetParam());
  for (std::size_t row = 0; row < product.rows; ++row) {
    // Of the first 48 rows 12 each have the same limit, then each has the next one.
    const Limit limit = limits[row < 48 ? row / 12 : row % 4];
    float* x = product.x.data() + row * product.inputs;
    const float sign = row % 2 == 0 ? 1.0f : -1.0f;
    std::fill_n(x, product.inputs, 0.0f);
    // In any block, and what fits into a half block in any of these.
    x += row % 12 * 32 + (limit.count < 16 ? row / 2 % 2 * 16 : 0);
    std::fill_n(x, limit.count, 127 * sign);
    x[limit.count] = limit.rest * sign;
  }
  base::ThreadPool pool(1);
  QuantizedRows room;
  const RowsView view = rows_for({kernel_table(Isa::kScalar), pool}, GetParam(), product.x.data(),
                                 product.rows, product.inputs, room);
  const auto all = product.run(Isa::kScalar, 1, 0, product.rows);
  for (const bool backwards : {false, true}) {
    for (const auto& [first, count] : {std::pair{0u, 80u},
                                       {48u, 32u},
                                       {0u, 12u},
                                       {12u, 12u},
                                       {24u, 12u},
                                       {36u, 12u},
                                       {0u, 4u},
                                       {12u, 4u},
                                       {24u, 8u},
                                       {36u, 8u},
                                       {44u, 8u},
                                       {3u, 1u},
                                       {12u, 1u},
                                       {40u, 1u}}) {
      std::vector<std::uint32_t> index;
      for (unsigned i = 0; i < count; ++i) index.push_back(first + i);
      if (backwards) std::reverse(index.begin(), index.end());
      std::vector<float> expected;
      for (const std::uint32_t row : index) {
        const auto begin = all.begin() + std::ptrdiff_t(row * product.outputs);
        expected.insert(expected.end(), begin, begin + std::ptrdiff_t(product.outputs));
      }
      for (const Isa isa : supported_isas()) {
        std::vector<float> y(count * product.outputs, NAN);
        const Product call{&product.weights, view, index.data(), count, y.data(), product.outputs};
        kernel_table(isa).matmul(call, 0, 9);
        EXPECT_EQ(y, expected) << to_string(isa) << ", rows " << first << " + " << count;
      }
    }
  }
}

TEST_P(MatmulTest, ARowGivesTheSameBitsAloneAndInAnyBatch) {
  const Multiplication product(GetParam(), 48, inputs(), 19);
  for (const Isa isa : supported_isas()) {
    const auto all = product.run(isa, 3, 0, product.rows);
    for (const std::size_t count : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 9u, 13u}) {
      for (std::size_t first = 0; first + count <= product.rows; first += count) {
        const auto some = product.run(isa, 1, first, count);
        const std::vector<float> same(
            all.begin() + std::ptrdiff_t(first * product.outputs),
            all.begin() + std::ptrdiff_t((first + count) * product.outputs));
        ASSERT_EQ(some, same) << to_string(isa) << " rows " << first << " + " << count;
      }
    }
  }
}

TEST_P(MatmulTest, AnIndexPicksRowsAndAStrideLeavesGapsAlone) {
  const Multiplication product(GetParam(), 20, inputs(), 6);
  base::ThreadPool pool(2);
  QuantizedRows room;
  const RowsView view = rows_for({kernel_table(Isa::kScalar), pool}, GetParam(), product.x.data(),
                                 product.rows, product.inputs, room);
  const auto all = product.run(Isa::kScalar, 1, 0, product.rows);
  const std::vector<std::uint32_t> few{4, 0, 4};
  const std::vector<std::uint32_t> many{4, 0, 4, 5, 5, 5, 1, 2, 3, 3, 0, 1, 2, 5, 4, 3, 2, 1, 0};
  constexpr std::size_t kStride = 23;
  for (const Isa isa : supported_isas()) {
    const Compute compute{kernel_table(isa), pool};
    for (const auto& index : {few, many}) {
      std::vector<float> y(index.size() * kStride, -7.0f);
      const Product picked{&product.weights, view, index.data(), index.size(), y.data(), kStride};
      matmul(compute, std::span(&picked, 1));
      for (std::size_t i = 0; i < index.size(); ++i) {
        for (std::size_t o = 0; o < kStride; ++o) {
          const float expected = o < product.outputs ? all[index[i] * product.outputs + o] : -7.0f;
          ASSERT_EQ(y[i * kStride + o], expected) << to_string(isa) << ", row " << i;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, MatmulTest, testing::ValuesIn(gguf::kBlockTypes),
                         [](const auto& instance) {
                           return std::string(gguf::traits(instance.param).name);
                         });

INSTANTIATE_TEST_SUITE_P(Types, BlockMatmulTest,
                         testing::Values(BlockType::kQ8_0, BlockType::kQ4_0, BlockType::kQ4_K,
                                         BlockType::kQ5_K, BlockType::kQ6_K, BlockType::kMXFP4),
                         [](const auto& instance) {
                           return std::string(gguf::traits(instance.param).name);
                         });

TEST(PackedMatrixTest, RefusesSizesThatDoNotFit) {
  const std::vector<std::byte> data(34 * 4);
  const auto code = [&](std::size_t outputs, std::size_t inputs) {
    const auto packed = PackedMatrix::pack(BlockType::kQ8_0, data, outputs, inputs);
    return packed ? base::ErrorCode{} : packed.error().code;
  };
  EXPECT_EQ(code(4, 32), base::ErrorCode{});
  EXPECT_EQ(code(2, 64), base::ErrorCode{});
  EXPECT_EQ(code(4, 31), base::ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(3, 32), base::ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(5, 32), base::ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(0, 32), base::ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(4, 0), base::ErrorCode::kInvalidArgument);
}

TEST(IsaTest, NamesAreUnderstoodAndOthersRefused) {
  EXPECT_EQ(choose_isa("").value(), best_isa());
  EXPECT_EQ(choose_isa("scalar").value(), Isa::kScalar);
  const auto unknown = choose_isa("sse9");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, base::ErrorCode::kInvalidArgument);
  EXPECT_THAT(unknown.error().message, testing::HasSubstr("sse9"));
}

}  // namespace
}  // namespace conclave::kernels
