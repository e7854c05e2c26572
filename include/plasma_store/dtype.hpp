//! Element types: what DLPack numbers, and the C++ type of each that has one.
#ifndef PLASMA_STORE_DTYPE_HPP_
#define PLASMA_STORE_DTYPE_HPP_

#include <plasma_store.h>

#include <complex>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <type_traits>

#if defined(__has_include)
#if __has_include(<stdfloat>)
#include <stdfloat>
#endif
#endif

namespace plasma {
inline namespace store_v1 {

/// DLPack's codes, as of 1.3; a program's own DLPack header may know fewer.
enum class TypeCode : std::uint8_t {
  integer = 0,
  unsigned_integer = 1,
  floating = 2,
  opaque_handle = 3,
  bfloat = 4,
  complex = 5,
  boolean = 6,
  float8_e3m4 = 7,
  float8_e4m3 = 8,
  float8_e4m3b11fnuz = 9,
  float8_e4m3fn = 10,
  float8_e4m3fnuz = 11,
  float8_e5m2 = 12,
  float8_e5m2fnuz = 13,
  float8_e8m0fnu = 14,
  float6_e2m3fn = 15,
  float6_e3m2fn = 16,
  float4_e2m1fn = 17,
  bcomplex = 18,
};

/// The type of one element: {TypeCode::floating, 32} is float.
struct DType {
  TypeCode code = TypeCode::floating;
  std::uint8_t bits = 32;
  std::uint16_t lanes = 1;

  constexpr DType() noexcept = default;
  constexpr DType(TypeCode its_code, std::uint8_t its_bits, std::uint16_t its_lanes = 1) noexcept
      : code(its_code), bits(its_bits), lanes(its_lanes) {}
  constexpr DType(DLDataType type) noexcept : DType(static_cast<TypeCode>(type.code), type.bits, type.lanes) {}
  constexpr operator DLDataType() const noexcept { return {static_cast<std::uint8_t>(code), bits, lanes}; }

  /// All lanes of one element.
  constexpr std::uint32_t element_bits() const noexcept { return std::uint32_t{bits} * lanes; }
  /// Whether several elements share a byte; such have no C++ type, and come as bytes.
  constexpr bool is_packed() const noexcept { return element_bits() % 8 != 0; }
  /// Whole bytes of one element, 0 when packed.
  constexpr std::size_t element_bytes() const noexcept { return is_packed() ? 0 : element_bits() / 8; }

  /// Bytes that so many elements take: packed ones lie bit behind bit.
  constexpr std::size_t bytes_of(std::size_t count) const noexcept {
    const std::size_t whole = count / 8 * element_bits(), rest = count % 8 * element_bits();
    return whole + (rest + 7) / 8;
  }

  /// Such as "float32", "bfloat16", "float8_e4m3fn", "bool"; of a code from the future its numbers.
  std::string name() const;

  friend constexpr bool operator==(DType a, DType b) noexcept {
    return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
  }
  friend constexpr bool operator!=(DType a, DType b) noexcept { return !(a == b); }
  friend std::ostream& operator<<(std::ostream& out, DType type) { return out << type.name(); }
};

namespace detail {

/// The codes' names by number. Those of a fixed width have it in the name.
inline constexpr const char* type_names[] = {
    "int",           "uint",           "float",         "opaque",        "bfloat",
    "complex",       "bool",           "float8_e3m4",   "float8_e4m3",   "float8_e4m3b11fnuz",
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",  "float8_e5m2fnuz", "float8_e8m0fnu",
    "float6_e2m3fn", "float6_e3m2fn",  "float4_e2m1fn", "bcomplex"};

/// The bits that a name stands for by itself; 0 where they follow it.
constexpr std::uint8_t bits_in_name(TypeCode code) noexcept {
  if (code == TypeCode::boolean) return 8;
  if (code < TypeCode::float8_e3m4 || code == TypeCode::bcomplex) return 0;
  if (code == TypeCode::float4_e2m1fn) return 4;
  return code < TypeCode::float6_e2m3fn ? 8 : 6;
}

}  // namespace detail

inline std::string DType::name() const {
  const auto number = static_cast<std::size_t>(code);
  if (number >= std::size(detail::type_names)) {
    return "DLPack type " + std::to_string(number) + " of " + std::to_string(bits) + " bits";
  }
  std::string name = detail::type_names[number];
  if (bits != detail::bits_in_name(code)) name += std::to_string(bits);
  if (lanes == 1) return name;
  return name + (detail::bits_in_name(code) == 0 ? "x" : "_x") + std::to_string(lanes);
}

/// A number that this compiler has no type for, as its bits: what they mean is the code's affair.
template <TypeCode Code, class Bits>
struct Raw {
  static constexpr TypeCode code = Code;
  Bits bits;

  friend constexpr bool operator==(Raw a, Raw b) noexcept { return a.bits == b.bits; }
  friend constexpr bool operator!=(Raw a, Raw b) noexcept { return a.bits != b.bits; }
};

using float16 = Raw<TypeCode::floating, std::uint16_t>;
using bfloat16 = Raw<TypeCode::bfloat, std::uint16_t>;
using complex32 = Raw<TypeCode::complex, std::uint32_t>;
using bcomplex32 = Raw<TypeCode::bcomplex, std::uint32_t>;
using float8_e3m4 = Raw<TypeCode::float8_e3m4, std::uint8_t>;
using float8_e4m3 = Raw<TypeCode::float8_e4m3, std::uint8_t>;
using float8_e4m3b11fnuz = Raw<TypeCode::float8_e4m3b11fnuz, std::uint8_t>;
using float8_e4m3fn = Raw<TypeCode::float8_e4m3fn, std::uint8_t>;
using float8_e4m3fnuz = Raw<TypeCode::float8_e4m3fnuz, std::uint8_t>;
using float8_e5m2 = Raw<TypeCode::float8_e5m2, std::uint8_t>;
using float8_e5m2fnuz = Raw<TypeCode::float8_e5m2fnuz, std::uint8_t>;
using float8_e8m0fnu = Raw<TypeCode::float8_e8m0fnu, std::uint8_t>;

/// The DType of a C++ type. For a type of your own (such as Eigen::half), specialize it with a static `value`.
template <class T, class = void>
struct dtype_of {
  static_assert(sizeof(T) == 0, "no DLPack type is known for this C++ type: specialize plasma::dtype_of for it");
};
template <class T>
struct dtype_of<T, std::enable_if_t<std::is_integral_v<T> && !std::is_same_v<T, bool>>> {
  static constexpr DType value{std::is_signed_v<T> ? TypeCode::integer : TypeCode::unsigned_integer, 8 * sizeof(T)};
};
template <>
struct dtype_of<bool> {
  static constexpr DType value{TypeCode::boolean, 8};
};
template <>
struct dtype_of<std::byte> {
  static constexpr DType value{TypeCode::unsigned_integer, 8};
};
template <>
struct dtype_of<float> {
  static constexpr DType value{TypeCode::floating, 32};
};
template <>
struct dtype_of<double> {
  static constexpr DType value{TypeCode::floating, 64};
};
template <>
struct dtype_of<std::complex<float>> {
  static constexpr DType value{TypeCode::complex, 64};
};
template <>
struct dtype_of<std::complex<double>> {
  static constexpr DType value{TypeCode::complex, 128};
};
template <TypeCode Code, class Bits>
struct dtype_of<Raw<Code, Bits>> {
  static constexpr DType value{Code, 8 * sizeof(Bits)};
};
#if defined(__STDCPP_FLOAT16_T__)
template <>
struct dtype_of<std::float16_t> {
  static constexpr DType value{TypeCode::floating, 16};
};
#endif
#if defined(__STDCPP_BFLOAT16_T__)
template <>
struct dtype_of<std::bfloat16_t> {
  static constexpr DType value{TypeCode::bfloat, 16};
};
#endif

}  // namespace store_v1
}  // namespace plasma

#endif  // PLASMA_STORE_DTYPE_HPP_
