//! Dense matrices of f64 by rows: blocked product, LU with partial pivoting, and what follows from it.

#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

/// Three blocks of 64 x 64 doubles take 96 KiB, which a second-level cache holds.
const BLOCK: usize = 64;

impl Matrix {
    /// # Panics
    /// If `values` does not hold `rows * columns` numbers.
    pub fn new(rows: usize, columns: usize, values: Vec<f64>) -> Matrix {
        assert_eq!(Some(values.len()), rows.checked_mul(columns), "a matrix needs rows * columns values");
        Matrix { rows, columns, values }
    }

    pub fn identity(size: usize) -> Matrix {
        let mut matrix = Matrix::new(size, size, vec![0.0; size * size]);
        (0..size).for_each(|i| matrix.values[i * size + i] = 1.0);
        matrix
    }

    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    pub fn transposed(&self) -> Matrix {
        let column = |c: usize| (0..self.rows).map(move |r| self.values[r * self.columns + c]);
        Matrix::new(self.columns, self.rows, (0..self.columns).flat_map(column).collect())
    }

    /// `None` if the shapes do not fit.
    pub fn product(&self, other: &Matrix) -> Option<Matrix> {
        if self.columns != other.rows {
            return None;
        }
        let mut out = Matrix::new(self.rows, other.columns, vec![0.0; self.rows * other.columns]);
        for row in (0..self.rows).step_by(BLOCK) {
            for inner in (0..self.columns).step_by(BLOCK) {
                self.add_block(other, row, inner, &mut out);
            }
        }
        Some(out)
    }

    fn add_block(&self, other: &Matrix, first_row: usize, first_inner: usize, out: &mut Matrix) {
        for row in first_row..(first_row + BLOCK).min(self.rows) {
            let sums = &mut out.values[row * other.columns..(row + 1) * other.columns];
            for inner in first_inner..(first_inner + BLOCK).min(self.columns) {
                let factor = self.values[row * self.columns + inner];
                // The inner loop runs along both rows, so that the compiler can use vector instructions.
                for (sum, value) in sums.iter_mut().zip(other.row(inner)) {
                    *sum += factor * value;
                }
            }
        }
    }

    /// `None` if the matrix is not square or singular.
    pub fn decomposed(&self) -> Option<Decomposed> {
        if self.rows != self.columns {
            return None;
        }
        let size = self.rows;
        let mut lu = self.values.clone();
        let mut order: Vec<usize> = (0..size).collect();
        let mut sign = 1.0;
        for step in 0..size {
            let pivot =
                (step..size).max_by(|&a, &b| lu[a * size + step].abs().total_cmp(&lu[b * size + step].abs()))?;
            if lu[pivot * size + step] == 0.0 {
                return None;
            }
            if pivot != step {
                (0..size).for_each(|c| lu.swap(pivot * size + c, step * size + c));
                order.swap(pivot, step);
                sign = -sign;
            }
            eliminate(&mut lu, size, step);
        }
        Some(Decomposed { size, lu, order, sign })
    }
}

/// Clears the column below the pivot and keeps the factors there.
fn eliminate(lu: &mut [f64], size: usize, step: usize) {
    let (above, below) = lu.split_at_mut((step + 1) * size);
    let pivot_row = &above[step * size..];
    for row in below.chunks_exact_mut(size) {
        let factor = row[step] / pivot_row[step];
        row[step] = factor;
        for (value, pivot) in row[step + 1..].iter_mut().zip(&pivot_row[step + 1..]) {
            *value -= factor * pivot;
        }
    }
}

/// `L` (below the diagonal, which is 1) and `U` in one square, with the order of the rows.
#[derive(Debug, Clone)]
pub struct Decomposed {
    size: usize,
    lu: Vec<f64>,
    order: Vec<usize>,
    sign: f64,
}

impl Decomposed {
    pub fn determinant(&self) -> f64 {
        (0..self.size).map(|i| self.lu[i * self.size + i]).product::<f64>() * self.sign
    }

    /// The `x` for which the matrix times `x` is `right`.
    ///
    /// # Panics
    /// If `right` has another length than the matrix has rows.
    pub fn solve(&self, right: &[f64]) -> Vec<f64> {
        assert_eq!(right.len(), self.size, "one value for each row");
        let mut x: Vec<f64> = self.order.iter().map(|&row| right[row]).collect();
        for row in 0..self.size {
            let known: f64 = (0..row).map(|c| self.lu[row * self.size + c] * x[c]).sum();
            x[row] -= known;
        }
        for row in (0..self.size).rev() {
            let known: f64 = (row + 1..self.size).map(|c| self.lu[row * self.size + c] * x[c]).sum();
            x[row] = (x[row] - known) / self.lu[row * self.size + row];
        }
        x
    }

    pub fn inverse(&self) -> Matrix {
        let unit = |c: usize| (0..self.size).map(|r| f64::from(u8::from(r == c))).collect::<Vec<_>>();
        let columns = (0..self.size).flat_map(|c| self.solve(&unit(c))).collect();
        Matrix::new(self.size, self.size, columns).transposed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blocked_product_equals_the_definition() {
        let (n, m, k) = (70, 130, 3);
        let a = Matrix::new(n, m, (0..n * m).map(|i| (i % 7) as f64).collect());
        let b = Matrix::new(m, k, (0..m * k).map(|i| (i % 5) as f64).collect());
        let product = a.product(&b).unwrap();
        let b_columns = b.transposed();
        for row in 0..n {
            for column in 0..k {
                let expected: f64 = a.row(row).iter().zip(b_columns.row(column)).map(|(x, y)| x * y).sum();
                assert_eq!(product.row(row)[column], expected);
            }
        }
        assert_eq!(a.product(&a), None);
    }

    #[test]
    fn a_matrix_times_its_inverse_is_the_identity() {
        let a = Matrix::new(3, 3, vec![0.0, 2.0, 1.0, 1.0, 0.0, 3.0, 4.0, -1.0, 2.0]);
        let lu = a.decomposed().unwrap();
        assert!((lu.determinant() - 19.0).abs() < 1e-12);
        let product = a.product(&lu.inverse()).unwrap();
        let off: f64 = product.values.iter().zip(&Matrix::identity(3).values).map(|(x, y)| (x - y).abs()).sum();
        assert!(off < 1e-12);
        assert!(Matrix::new(2, 2, vec![1.0, 2.0, 2.0, 4.0]).decomposed().is_none());
    }
}
