//! The calls of `timeout` that are under way among the tasks of one worker.
//!
//! A frame is opened when such a call begins and closed when it ends; those of a task are one in the other. When a frame is *due*, its task is to
//! unwind to it. Of several that are due the outermost is meant, as the others go with it. A mask that was put on inside a frame defers it;
//! one that lies outside, and that the unwinding would not pass, does not.
//!
//! All of it is the worker's own: other threads do not see it. An entry in the list of deadlines finds its frame by place and number; a place
//! that has another frame by then has another number.

use std::collections::HashMap;
use std::ptr;

use crate::task::{self, Task};

/// A frame, among all that this worker ever opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FrameId {
    place: u32,
    /// Wraps after four thousand million frames, by when nothing of the first is left.
    number: u32,
}

#[derive(Debug)]
struct Frame {
    number: u32,
    task: &'static Task,
    /// The place of the next frame outwards.
    outer: Option<u32>,
    /// Masks that were on when it was opened.
    masks: u8,
    due: bool,
    /// It was thrown before, and swallowed.
    thrown: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Frames {
    places: Vec<Option<Frame>>,
    free: Vec<u32>,
    /// The place of a task's innermost frame, by the address of its record; for tasks that have any.
    innermost: HashMap<usize, u32>,
    opened: u32,
}

fn key(task: &'static Task) -> usize {
    ptr::from_ref(task).addr()
}

impl Frames {
    pub(super) fn open(&mut self, task: &'static Task) -> FrameId {
        self.opened = self.opened.wrapping_add(1);
        let number = self.opened;
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).expect("fewer frames than fit memory")
        });
        let outer = self.innermost.insert(key(task), place);
        self.places[place as usize] =
            Some(Frame { number, task, outer, masks: task.masks.get(), due: false, thrown: false });
        task.asks.set(task.asks.get() | task::HAS_FRAMES);
        FrameId { place, number }
    }

    /// The call ends: `id` is the innermost frame of its task. Returns whether its time had come.
    pub(super) fn close(&mut self, id: FrameId) -> bool {
        let frame = self.places[id.place as usize].take().expect("a frame is closed once");
        debug_assert_eq!(self.innermost.get(&key(frame.task)), Some(&id.place), "frames close inside out");
        self.free.push(id.place);
        let task = frame.task;
        let mut asks = task.asks.get() & !(task::DUE | task::HAS_FRAMES);
        if let Some(outer) = frame.outer {
            self.innermost.insert(key(task), outer);
            asks |= task::HAS_FRAMES;
            if self.of(task).any(|(_, frame)| frame.due) {
                asks |= task::DUE;
            }
        } else {
            self.innermost.remove(&key(task));
        }
        task.asks.set(asks);
        frame.due
    }

    pub(super) fn is_open(&self, id: FrameId) -> bool {
        self.places[id.place as usize].as_ref().is_some_and(|frame| frame.number == id.number)
    }

    /// The time of an open frame has come. Returns its task, and whether that may unwind to it now.
    pub(super) fn is_due(&mut self, id: FrameId) -> (&'static Task, bool) {
        let frame = self.places[id.place as usize].as_mut().expect("the caller knows that it is open");
        frame.due = true;
        let task = frame.task;
        task.asks.set(task.asks.get() | task::DUE);
        (task, frame.masks >= task.masks.get())
    }

    /// From the innermost outwards.
    fn of(&self, task: &'static Task) -> impl Iterator<Item = (u32, &Frame)> {
        let place_of = |place: u32| {
            let frame = self.places[place as usize].as_ref();
            (place, frame.expect("a chain leads over open frames"))
        };
        let innermost = self.innermost.get(&key(task)).copied().map(place_of);
        std::iter::successors(innermost, move |(_, frame)| frame.outer.map(place_of))
    }

    /// Whether the task has a frame inside all of its masks.
    pub(crate) fn is_inside_masks(&self, task: &'static Task) -> bool {
        self.of(task).next().is_some_and(|(_, frame)| frame.masks >= task.masks.get())
    }

    /// The frame that the task is to unwind to, if there is one and no mask defers it.
    pub(crate) fn target(&self, task: &'static Task) -> Option<FrameId> {
        let allowed = self.of(task).filter(|(_, frame)| frame.due && frame.masks >= task.masks.get());
        allowed.last().map(|(place, frame)| FrameId { place, number: frame.number })
    }

    /// Notes that the task is unwound to this frame, which is open. Whether it was before.
    pub(crate) fn throw(&mut self, id: FrameId) -> bool {
        let frame = self.places[id.place as usize].as_mut().expect("a target is open");
        std::mem::replace(&mut frame.thrown, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_due_frame_inside_the_masks_is_the_target_and_places_are_used_again() {
        let (mut frames, task, other) = (Frames::default(), task::take_record(), task::take_record());
        task.asks.set(0);
        other.asks.set(0);
        let outer = frames.open(task);
        let beside = frames.open(other);
        task.masks.set(1);
        let masked = frames.open(task);
        let inner = frames.open(task);
        assert_eq!(frames.target(task), None);
        assert!(frames.is_due(inner).1);
        assert_eq!(frames.target(task), Some(inner));
        assert!(frames.is_due(masked).1, "it began under the mask");
        assert_eq!(frames.target(task), Some(masked));
        assert!(!frames.is_due(outer).1, "the mask began inside it");
        assert_eq!(frames.target(task), Some(masked));
        assert!(!frames.throw(masked) && frames.throw(masked));
        frames.close(inner);
        frames.close(masked);
        assert!(!frames.is_open(inner) && !frames.is_inside_masks(task));
        assert_eq!((frames.target(task), task.asks.get()), (None, task::HAS_FRAMES | task::DUE));
        task.masks.set(0);
        assert_eq!(frames.target(task), Some(outer));
        assert_eq!((frames.target(other), other.asks.get()), (None, task::HAS_FRAMES));
        frames.close(outer);
        assert_eq!((frames.target(task), task.asks.get()), (None, 0));
        let next = frames.open(task);
        assert!(next.place == outer.place && !frames.is_open(outer) && frames.is_open(next));
        frames.close(next);
        frames.close(beside);
        assert!(frames.innermost.is_empty());
        task::recycle(task);
        task::recycle(other);
    }
}
