//! How a tensor of ours lies in a file.

/// How a tensor lies in a file, where images have their channels before rows and columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// As it is here.
    Same(Vec<usize>),
    /// Filters: (filters, channels, rows, columns) there, (filters, rows, columns, channels) here.
    Filters([usize; 4]),
    /// A linear layer behind images: its inputs are (channels, rows, columns) there, (rows, columns, channels) here.
    Flattened {
        /// Outputs of the layer.
        outputs: usize,
        /// Rows, columns and channels of the images.
        image: [usize; 3],
    },
    /// Filters here that are a linear layer there, of which some rows and places are taken (Liu et al. 2016, section 3.1).
    Decimated {
        /// Filters, rows, columns and channels here.
        filters: [usize; 4],
        /// Outputs there, and rows and columns of the images before it.
        outputs: usize,
        /// Rows and columns there.
        image: [usize; 2],
        /// Channels there.
        channels: usize,
    },
    /// A bias of such filters.
    Every {
        /// Elements here.
        kept: usize,
        /// Elements there.
        of: usize,
    },
}

impl Layout {
    /// Returns the extents in the file.
    pub(super) fn extents(&self) -> Vec<usize> {
        match self {
            Self::Same(extents) => extents.clone(),
            &Self::Filters([filters, rows, columns, channels]) => {
                vec![filters, channels, rows, columns]
            }
            Self::Flattened { outputs, image } => vec![*outputs, image.iter().product()],
            Self::Decimated { outputs, image: [rows, columns], channels, .. } => {
                vec![*outputs, rows * columns * channels]
            }
            Self::Every { of, .. } => vec![*of],
        }
    }

    /// Returns how many elements of ours it is.
    pub(super) fn elements(&self) -> usize {
        match self {
            Self::Decimated { filters, .. } => filters.iter().product(),
            Self::Every { kept, .. } => *kept,
            _ => self.extents().iter().product(),
        }
    }

    /// Brings elements of a file into our order.
    pub(super) fn of_file(&self, values: &[f32]) -> Vec<f32> {
        match self {
            Self::Same(_) => values.to_vec(),
            &Self::Filters([filters, rows, columns, channels]) => {
                channels_last(values, [filters, channels, rows * columns])
            }
            &Self::Flattened { outputs, image: [rows, columns, channels] } => {
                channels_last(values, [outputs, channels, rows * columns])
            }
            &Self::Decimated { filters, outputs, image: [rows, columns], channels } => {
                let [kept, down, right, kept_channels] = filters;
                let stride =
                    |of: usize, kept: usize| if kept > 1 { (of - 1) / (kept - 1) } else { 1 };
                let [of_rows, of_columns] = [stride(rows, down), stride(columns, right)];
                let [every, every_channel] = [outputs / kept, channels / kept_channels];
                let mut taken = Vec::with_capacity(self.elements());
                for filter in 0..kept {
                    for (y, x) in (0..down).flat_map(|y| (0..right).map(move |x| (y, x))) {
                        for channel in 0..kept_channels {
                            let image =
                                (filter * every * channels + channel * every_channel) * rows;
                            taken.push(values[(image + y * of_rows) * columns + x * of_columns]);
                        }
                    }
                }
                taken
            }
            &Self::Every { kept, of } => values.iter().copied().step_by(of / kept).collect(),
        }
    }

    /// Brings elements of ours into the order of the file.
    ///
    /// What was decimated cannot be: it is read only.
    pub(super) fn to_file(&self, values: &[f32]) -> Vec<f32> {
        match self {
            Self::Same(_) | Self::Decimated { .. } | Self::Every { .. } => values.to_vec(),
            &Self::Filters([filters, rows, columns, channels]) => {
                channels_last(values, [filters, rows * columns, channels])
            }
            &Self::Flattened { outputs, image: [rows, columns, channels] } => {
                channels_last(values, [outputs, rows * columns, channels])
            }
        }
    }
}

/// Exchanges the last two of three axes.
fn channels_last(values: &[f32], [outer, first, second]: [usize; 3]) -> Vec<f32> {
    let of = |outer: usize| {
        let at = move |s: usize, f: usize| values[(outer * first + f) * second + s];
        (0..second).flat_map(move |s| (0..first).map(move |f| at(s, f)))
    };
    (0..outer).flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_move_to_the_end_and_back() {
        let layout = Layout::Filters([1, 1, 2, 3]);
        // (1, 3, 1, 2): three channels of two pixels.
        let there = [0.0, 1.0, 10.0, 11.0, 20.0, 21.0];
        let here = layout.of_file(&there);
        assert_eq!(here, [0.0, 10.0, 20.0, 1.0, 11.0, 21.0]);
        assert_eq!(layout.to_file(&here), there);
        assert_eq!(layout.extents(), [1, 3, 1, 2]);
    }

    /// Of 4 outputs every second one, of 5 x 5 pixels every second row and column, of 2 channels all.
    #[test]
    fn a_linear_layer_is_decimated_to_filters() {
        let filters = [2, 3, 3, 2];
        let layout = Layout::Decimated { filters, outputs: 4, image: [5, 5], channels: 2 };
        assert_eq!(layout.extents(), [4, 50]);
        let there: Vec<f32> = (0..200).map(|at| at as f32).collect();
        let here = layout.of_file(&there);
        assert_eq!(here.len(), layout.elements());
        // Output 0, pixel (0, 0), both channels; then pixel (0, 2).
        assert_eq!(here[..4], [0.0, 25.0, 2.0, 27.0]);
        // Output 2, pixel (4, 4).
        assert_eq!(here[34..], [124.0, 149.0]);
        let bias = Layout::Every { kept: 2, of: 4 };
        assert_eq!(bias.of_file(&[0.0, 1.0, 2.0, 3.0]), [0.0, 2.0]);
    }
}
