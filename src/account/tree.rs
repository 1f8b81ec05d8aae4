//! A wide tree over a fixed number of options that knows which are the best, what they weigh together, and which is due.
//!
//! Pure, and laid out for memory: a choice among thousands of options is mostly waiting for it. Eight neighbours stand
//! together in two lines, so that a walk between leaf and root reads five such groups for 10,000 options, of which all but
//! the lowest are in use all the time. Its invariant: each group's entry in the level above holds the group's least key, the
//! weight of all that have it, and its earliest time.

/// The key of what cannot be chosen.
pub(super) const CLOSED: u64 = u64::MAX;
/// The key of what cannot be chosen until another request ends.
pub(super) const FULL: u64 = CLOSED - 1;
/// A time that never comes.
pub(super) const NEVER: u64 = u64::MAX;

/// So many neighbours stand together.
const WAYS: usize = 8;

/// What is known of one option, or of all below a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Lower is better.
    pub(super) key: u64,
    /// The weight of all that are as good as the best. That of all options together must not overflow.
    pub(super) weight: u32,
    /// When the first of them is to be looked at again.
    pub(super) due: u64,
}

impl Node {
    pub(super) const NONE: Node = Node { key: CLOSED, weight: 0, due: NEVER };

    pub(super) fn is_open(self) -> bool {
        self.key < FULL
    }
}

/// Neighbours.
#[derive(Clone, Copy, Debug)]
#[repr(align(128))]
struct Group {
    keys: [u64; WAYS],
    weights: [u32; WAYS],
    /// One bit for each that has a time; the times stand apart, since most have none.
    timed: u8,
}

impl Group {
    const NONE: Group = Group { keys: [CLOSED; WAYS], weights: [0; WAYS], timed: 0 };

    /// The least key, and the weight of all that have it.
    fn best(&self) -> (u64, u32) {
        let key = self.keys.iter().copied().fold(CLOSED, u64::min);
        let weight = self.keys.iter().zip(&self.weights).map(|(own, weight)| if *own == key { *weight } else { 0 });
        (key, weight.sum())
    }

    /// Whose share of those with this key holds the point `at`, and the point's place in that share. Without a branch
    /// that depends on the draw: nobody could foretell it.
    fn share(&self, key: u64, at: u32) -> (usize, u32) {
        let (mut end, mut begin, mut slot) = (0, 0, 0);
        for (own, weight) in self.keys.iter().zip(&self.weights) {
            end += if *own == key { *weight } else { 0 };
            let is_before = end <= at;
            slot += usize::from(is_before);
            begin = if is_before { end } else { begin };
        }
        (slot.min(WAYS - 1), at - begin)
    }
}

#[derive(Debug)]
pub(super) struct Tree {
    /// The levels one behind another: the options' own first, the one group at the top last.
    groups: Box<[Group]>,
    /// The times, in the same order.
    dues: Box<[[u64; WAYS]]>,
    /// Where each level begins.
    levels: Box<[usize]>,
    options: usize,
    root: Node,
}

impl Tree {
    /// All options are closed.
    pub(super) fn new(options: usize) -> Tree {
        let (mut levels, mut groups, mut width) = (Vec::new(), 0, options);
        while levels.is_empty() || width > 1 {
            levels.push(groups);
            width = width.div_ceil(WAYS);
            groups += width;
        }
        let (groups, dues) = (vec![Group::NONE; groups].into(), vec![[NEVER; WAYS]; groups].into());
        Tree { groups, dues, levels: levels.into(), options, root: Node::NONE }
    }

    /// The best of all.
    pub(super) fn root(&self) -> Node {
        self.root
    }

    /// One option, if it exists.
    pub(super) fn leaf(&self, option: usize) -> Option<Node> {
        let (at, slot) = (option / WAYS, option % WAYS);
        let group = self.groups.get(at).filter(|_| option < self.options)?;
        let due = if group.timed >> slot & 1 == 1 { self.due_at(at, slot) } else { NEVER };
        Some(Node { key: *group.keys.get(slot)?, weight: *group.weights.get(slot)?, due })
    }

    /// Says what holds of an option.
    pub(super) fn put(&mut self, option: usize, node: Node) {
        if option >= self.options {
            return;
        }
        let is_timed = |group: &Group| group.timed >> (option % WAYS) & 1 == 1;
        if node.due != NEVER || self.groups.get(option / WAYS).is_some_and(is_timed) {
            self.put_due(option, node.due);
        }
        let (mut at, mut key, mut weight) = (option, node.key, node.weight);
        for begin in &self.levels {
            let Some(group) = self.groups.get_mut(begin + at / WAYS) else { return };
            let slot = at % WAYS;
            let (Some(own), Some(share)) = (group.keys.get_mut(slot), group.weights.get_mut(slot)) else { return };
            if (*own, *share) == (key, weight) {
                return;
            }
            (*own, *share) = (key, weight);
            (key, weight) = group.best();
            at /= WAYS;
        }
        (self.root.key, self.root.weight) = (key, weight);
    }

    fn put_due(&mut self, option: usize, due: u64) {
        let (mut at, mut due) = (option, due);
        for begin in &self.levels {
            let place = begin + at / WAYS;
            let (Some(group), Some(dues)) = (self.groups.get_mut(place), self.dues.get_mut(place)) else { return };
            let Some(own) = dues.get_mut(at % WAYS) else { return };
            if *own == due {
                return;
            }
            *own = due;
            let bit = 1 << (at % WAYS);
            group.timed = if due == NEVER { group.timed & !bit } else { group.timed | bit };
            due = dues.iter().copied().fold(NEVER, u64::min);
            at /= WAYS;
        }
        self.root.due = due;
    }

    /// One of the best, by weight; the first option where none is open.
    pub(super) fn draw(&self, draw: u64) -> usize {
        // A point of the whole weight, without a division.
        let mut point = ((u128::from(draw) * u128::from(self.root.weight)) >> 64) as u32;
        let mut at = 0;
        for begin in self.levels.iter().rev() {
            let Some(group) = self.groups.get(begin + at) else { return 0 };
            let (slot, rest) = group.share(self.root.key, point);
            (at, point) = (at * WAYS + slot, rest);
        }
        at
    }

    /// The first option that is due by `now`.
    pub(super) fn first_due(&self, now: u64) -> Option<usize> {
        if self.root.due > now {
            return None;
        }
        let mut at = 0;
        for begin in self.levels.iter().rev() {
            let dues = self.dues.get(begin + at)?;
            at = at * WAYS + dues.iter().position(|due| *due <= now)?;
        }
        Some(at)
    }

    fn due_at(&self, group: usize, slot: usize) -> u64 {
        self.dues.get(group).and_then(|dues| dues.get(slot)).copied().unwrap_or(NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_number_of_options_has_room_and_no_more_are_there() {
        for options in (0..200).chain([511, 512, 513, 4_095, 4_096, 4_097]) {
            let mut tree = Tree::new(options);
            assert_eq!((tree.root(), tree.leaf(options)), (Node::NONE, None), "{options}");
            tree.put(options, Node { key: 1, weight: 1, due: 1 });
            assert_eq!((tree.root(), tree.first_due(u64::MAX - 1)), (Node::NONE, None), "{options}");
            for at in [0, options / 2, options.saturating_sub(1)].into_iter().filter(|at| *at < options) {
                let node = Node { key: 7, weight: 3, due: 9 };
                tree.put(at, node);
                assert_eq!((tree.root(), tree.leaf(at)), (node, Some(node)), "{options}");
                assert_eq!((tree.draw(0), tree.draw(u64::MAX), tree.first_due(9)), (at, at, Some(at)), "{options}");
                tree.put(at, Node::NONE);
            }
        }
    }

    #[test]
    fn every_point_of_the_whole_weight_belongs_to_its_owner() {
        let weights = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8];
        let mut tree = Tree::new(weights.len());
        weights.iter().enumerate().for_each(|(at, weight)| tree.put(at, Node { key: 2, weight: *weight, due: NEVER }));
        // One that is worse and one that is away have no share.
        tree.put(4, Node { key: 3, weight: 5, due: NEVER });
        tree.put(9, Node::NONE);
        let total = tree.root().weight;
        assert_eq!(total, weights.iter().sum::<u32>() - 5 - 3);
        let mut drawn = vec![0; weights.len()];
        for point in 0..u64::from(total) {
            // The middle of the point's part of all draws.
            drawn[tree.draw(((u128::from(point) * 2 + 1) * (1 << 63) / u128::from(total)) as u64)] += 1;
        }
        assert_eq!(drawn, [3, 1, 4, 1, 0, 9, 2, 6, 5, 0, 5, 8]);
    }

    proptest! {
        #[test]
        fn the_top_is_what_a_look_at_all_says(
            options in 1_usize..700,
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0_u64..4, 1_u32..5, 0_u64..6), 1..80),
            draw in any::<u64>()
        ) {
            let (mut tree, mut all) = (Tree::new(options), vec![Node::NONE; options]);
            for (at, key, weight, due) in changes {
                let (at, due) = (at.index(options), if due == 5 { NEVER } else { due });
                let node = if key == 3 { Node { due, ..Node::NONE } } else { Node { key, weight, due } };
                tree.put(at, node);
                all[at] = node;
                let key = all.iter().map(|node| node.key).min().unwrap();
                let best = || all.iter().filter(|node| node.key == key);
                let due = all.iter().map(|node| node.due).min().unwrap();
                prop_assert_eq!(tree.root(), Node { key, weight: best().map(|node| node.weight).sum(), due });
                prop_assert_eq!(tree.leaf(at), Some(node));
                if tree.root().is_open() {
                    prop_assert_eq!(all[tree.draw(draw)].key, key);
                }
                prop_assert_eq!(tree.first_due(due.min(NEVER - 1)), all.iter().position(|node| node.due <= due.min(NEVER - 1)));
            }
        }
    }
}
