//! Natural numbers of any size: limbs of 32 bits, the least significant first, no zero at the top.

use std::cmp::Ordering;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Natural {
    limbs: Vec<u32>,
}

/// Below this many limbs the schoolbook product is faster than Karatsuba's.
const KARATSUBA_FROM: usize = 32;

impl Natural {
    pub fn from_u64(value: u64) -> Natural {
        Natural::trimmed(vec![value as u32, (value >> 32) as u32])
    }

    pub fn from_decimal(digits: &str) -> Option<Natural> {
        let mut value = Natural::default();
        for digit in digits.chars() {
            value = value.times_plus(10, digit.to_digit(10)?);
        }
        (!digits.is_empty()).then_some(value)
    }

    pub fn to_decimal(&self) -> String {
        let mut groups = Vec::new();
        let mut rest = self.clone();
        while !rest.limbs.is_empty() {
            let (quotient, group) = rest.divided_by_limb(1_000_000_000);
            groups.push(group);
            rest = quotient;
        }
        let Some(first) = groups.pop() else { return "0".to_string() };
        groups.iter().rev().fold(first.to_string(), |text, group| text + &format!("{group:09}"))
    }

    pub fn plus(&self, other: &Natural) -> Natural {
        let mut sum = self.limbs.clone();
        add_at(&mut sum, &other.limbs, 0);
        Natural::trimmed(sum)
    }

    /// `None` if the result would be negative.
    pub fn minus(&self, other: &Natural) -> Option<Natural> {
        if self.compare(other) == Ordering::Less {
            return None;
        }
        let mut difference = self.limbs.clone();
        subtract(&mut difference, &other.limbs);
        Some(Natural::trimmed(difference))
    }

    pub fn times(&self, other: &Natural) -> Natural {
        Natural::trimmed(product(&self.limbs, &other.limbs))
    }

    pub fn power(&self, mut exponent: u32) -> Natural {
        let mut result = Natural::from_u64(1);
        let mut square = self.clone();
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = result.times(&square);
            }
            exponent >>= 1;
            square = if exponent > 0 { square.times(&square) } else { square };
        }
        result
    }

    pub fn factorial(n: u32) -> Natural {
        (2..=n).fold(Natural::from_u64(1), |product, factor| product.times_plus(factor, 0))
    }

    pub fn compare(&self, other: &Natural) -> Ordering {
        let by_length = self.limbs.len().cmp(&other.limbs.len());
        by_length.then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev()))
    }

    fn times_plus(&self, factor: u32, carry: u32) -> Natural {
        let mut carry = u64::from(carry);
        let mut limbs = Vec::with_capacity(self.limbs.len() + 1);
        for &limb in &self.limbs {
            carry += u64::from(limb) * u64::from(factor);
            limbs.push(carry as u32);
            carry >>= 32;
        }
        limbs.push(carry as u32);
        Natural::trimmed(limbs)
    }

    fn divided_by_limb(&self, divisor: u32) -> (Natural, u32) {
        let mut quotient = self.limbs.clone();
        let mut rest = 0u64;
        for limb in quotient.iter_mut().rev() {
            rest = rest << 32 | u64::from(*limb);
            *limb = (rest / u64::from(divisor)) as u32;
            rest %= u64::from(divisor);
        }
        (Natural::trimmed(quotient), rest as u32)
    }

    fn trimmed(mut limbs: Vec<u32>) -> Natural {
        while limbs.last() == Some(&0) {
            limbs.pop();
        }
        Natural { limbs }
    }
}

/// Adds `other`, shifted up by `shift` limbs.
fn add_at(sum: &mut Vec<u32>, other: &[u32], shift: usize) {
    if sum.len() < other.len() + shift {
        sum.resize(other.len() + shift, 0);
    }
    let mut carry = 0u64;
    for (at, limb) in sum.iter_mut().enumerate().skip(shift) {
        carry += u64::from(*limb) + u64::from(other.get(at - shift).copied().unwrap_or(0));
        *limb = carry as u32;
        carry >>= 32;
    }
    if carry > 0 {
        sum.push(carry as u32);
    }
}

/// `other` must not be greater.
fn subtract(from: &mut [u32], other: &[u32]) {
    let mut borrow = false;
    for (at, limb) in from.iter_mut().enumerate() {
        let (less, first) = limb.overflowing_sub(other.get(at).copied().unwrap_or(0));
        let (less, second) = less.overflowing_sub(u32::from(borrow));
        (*limb, borrow) = (less, first | second);
    }
    debug_assert!(!borrow);
}

fn product(a: &[u32], b: &[u32]) -> Vec<u32> {
    if a.len().min(b.len()) < KARATSUBA_FROM { schoolbook(a, b) } else { karatsuba(a, b) }
}

fn schoolbook(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut out = vec![0u32; a.len() + b.len()];
    for (shift, &factor) in a.iter().enumerate() {
        let mut carry = 0u64;
        for (slot, &limb) in out[shift..].iter_mut().zip(b) {
            carry += u64::from(*slot) + u64::from(factor) * u64::from(limb);
            *slot = carry as u32;
            carry >>= 32;
        }
        out[shift + b.len()] = carry as u32;
    }
    out
}

/// Three products of half the size instead of four: (a1 + a0)(b1 + b0) - a1 b1 - a0 b0 is the middle.
fn karatsuba(a: &[u32], b: &[u32]) -> Vec<u32> {
    let half = a.len().max(b.len()).div_ceil(2);
    let (a_low, a_high) = a.split_at(half.min(a.len()));
    let (b_low, b_high) = b.split_at(half.min(b.len()));
    let (low, high) = (product(a_low, b_low), product(a_high, b_high));
    let (mut a_sum, mut b_sum) = (a_low.to_vec(), b_low.to_vec());
    add_at(&mut a_sum, a_high, 0);
    add_at(&mut b_sum, b_high, 0);
    let mut middle = product(&a_sum, &b_sum);
    subtract(&mut middle, &low);
    subtract(&mut middle, &high);
    let middle = Natural::trimmed(middle).limbs;
    let mut out = low;
    add_at(&mut out, &middle, half);
    add_at(&mut out, &high, 2 * half);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_survive_the_round_trip() {
        for digits in ["0", "1", "4294967296", "18446744073709551616", "340282366920938463463374607431768211455"] {
            assert_eq!(Natural::from_decimal(digits).unwrap().to_decimal(), digits);
        }
        assert_eq!(Natural::from_decimal("12a"), None);
        assert_eq!(Natural::from_u64(u64::MAX).plus(&Natural::from_u64(1)).to_decimal(), "18446744073709551616");
        assert_eq!(Natural::factorial(25).to_decimal(), "15511210043330985984000000");
    }

    #[test]
    fn karatsuba_equals_the_schoolbook() {
        for (a, b) in [(3u32, 900u32), (200, 300), (700, 701), (1_000, 40)] {
            let (a, b) = (Natural::from_u64(987_654_321).power(a), Natural::from_u64(123_456_789).power(b));
            assert_eq!(a.times(&b), Natural::trimmed(schoolbook(&a.limbs, &b.limbs)));
        }
    }

    #[test]
    fn subtraction_undoes_addition() {
        let (a, b) = (Natural::from_u64(7).power(500), Natural::from_u64(3).power(900));
        assert_eq!(a.plus(&b).minus(&b), Some(a.clone()));
        assert_eq!(Natural::from_u64(3).minus(&Natural::from_u64(4)), None);
    }
}
