//! The little linear algebra that some statistics need.

/// Sweeps of the Jacobi method; it converges quadratically, and ten are plenty for any matrix.
const SWEEPS: usize = 60;

/// Eigenvalues, largest first, and eigenvectors (one a row) of a symmetric matrix given row by row: the cyclic Jacobi method
/// (Golub and Van Loan, Matrix Computations, section 8.5).
pub(crate) fn symmetric_eigen(matrix: &[f64], size: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut a: Vec<Vec<f64>> = matrix.chunks_exact(size.max(1)).map(<[f64]>::to_vec).collect();
    let mut vectors: Vec<Vec<f64>> =
        (0..size).map(|row| (0..size).map(|column| f64::from(u8::from(row == column))).collect()).collect();
    for _ in 0..SWEEPS {
        let off: f64 = (0..size).map(|row| a[row][row + 1..].iter().map(|cell| cell * cell).sum::<f64>()).sum();
        let diagonal: f64 = (0..size).map(|row| a[row][row] * a[row][row]).sum();
        if off <= 1e-34 * diagonal {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                rotate(&mut a, &mut vectors, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|left, right| a[*right][*right].total_cmp(&a[*left][*left]));
    (order.iter().map(|place| a[*place][*place]).collect(), order.iter().map(|place| vectors[*place].clone()).collect())
}

/// Zeroes the cell (p, q) by a rotation of the two axes.
fn rotate(a: &mut [Vec<f64>], vectors: &mut [Vec<f64>], p: usize, q: usize) {
    if a[p][q] == 0.0 {
        return;
    }
    let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
    let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    for row in a.iter_mut() {
        let (left, right) = (row[p], row[q]);
        row[p] = cosine * left - sine * right;
        row[q] = sine * left + cosine * right;
    }
    for matrix in [a, vectors] {
        let (upper, lower) = matrix.split_at_mut(q);
        for (left, right) in upper[p].iter_mut().zip(&mut lower[0]) {
            (*left, *right) = (cosine * *left - sine * *right, sine * *left + cosine * *right);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_put_together_give_the_matrix() {
        let size = 6;
        let cell = |i: usize, j: usize| ((i * j) as f64 + 1.0).sin() + ((i + j) as f64 * 0.7).cos();
        let matrix: Vec<f64> = (0..size).flat_map(|i| (0..size).map(move |j| cell(i, j))).collect();
        let (values, vectors) = symmetric_eigen(&matrix, size);
        assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
        for i in 0..size {
            for j in 0..size {
                let sum: f64 = (0..size).map(|k| values[k] * vectors[k][i] * vectors[k][j]).sum();
                assert!((sum - matrix[i * size + j]).abs() < 1e-12, "{i} {j}");
            }
        }
    }

    #[test]
    fn a_diagonal_matrix_is_left_alone() {
        let (values, vectors) = symmetric_eigen(&[1.0, 0.0, 0.0, 5.0], 2);
        assert_eq!((values, vectors), (vec![5.0, 1.0], vec![vec![0.0, 1.0], vec![1.0, 0.0]]));
    }
}
