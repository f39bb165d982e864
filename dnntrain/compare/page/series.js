// What a chart draws: the rows of runs as points, smoothed, and several seeds as their mean and range.
const series = (() => {
  'use strict';

  // An exponential mean that starts without a bias: each point is the weighted mean of those before it.
  function smooth(values, weight) {
    if (!weight) return values;
    let sum = 0;
    let total = 0;
    return values.map((value) => {
      if (value === null) return null;
      sum = weight * sum + value;
      total = weight * total + 1;
      return sum / total;
    });
  }

  // Seconds of training up to the end of each epoch.
  function elapsed(run) {
    let sum = 0;
    return run.epochs.map((_, index) => (sum += run.curves.seconds?.[index] ?? 0));
  }

  // The points of one run: {x, y, epoch}; y is null where the figure is missing, and where a log axis cannot show it.
  function ofRun(run, { metric, time, log, weight }) {
    const values = smooth(run.curves[metric] ?? [], weight);
    const places = time ? elapsed(run) : run.epochs;
    return values.map((y, index) => ({
      x: places[index], y: log && y !== null && y <= 0 ? null : y, epoch: run.epochs[index],
    }));
  }

  // The mean over runs at each epoch that at least half of them reached, with the lowest and the highest.
  function ofGroup(runs, options) {
    const at = new Map();
    const drawn = runs.map((run) => ofRun(run, options)).filter((points) => points.some((point) => point.y !== null));
    for (const points of drawn) {
      for (const point of points) {
        if (point.y === null) continue;
        if (!at.has(point.epoch)) at.set(point.epoch, []);
        at.get(point.epoch).push(point);
      }
    }
    return [...at.keys()].sort((a, b) => a - b).filter((epoch) => 2 * at.get(epoch).length >= drawn.length)
      .map((epoch) => {
        const here = at.get(epoch);
        const ys = here.map((point) => point.y);
        return { x: mean(here.map((point) => point.x)), y: mean(ys), low: Math.min(...ys), high: Math.max(...ys), epoch };
      });
  }

  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  // The point nearest to a place, none beyond the line's ends; points are in the order of x.
  function nearest(points, x) {
    if (!points.length || x < points[0].x || x > points[points.length - 1].x) return undefined;
    let [first, last] = [0, points.length - 1];
    while (last - first > 1) {
      const middle = (first + last) >> 1;
      if (points[middle].x <= x) first = middle;
      else last = middle;
    }
    const near = [points[first], points[last]].filter((point) => point && point.y !== null);
    return near.sort((a, b) => Math.abs(a.x - x) - Math.abs(b.x - x))[0];
  }

  // The lines to draw now, of groups or of runs.
  function lines(data, options) {
    const made = [];
    for (const group of data.groups) {
      if (!selection.shows(group.id)) continue;
      const runs = group.runs.map((index) => data.runs[index]).filter((run) => selection.shows(selection.runKey(run)));
      if (selection.mode() === 'groups') {
        made.push({ id: group.id, name: group.label, group, points: ofGroup(runs, options), best: null });
      } else {
        for (const run of runs) {
          made.push({
            id: `run ${run.id}`, name: `${group.label}, seed ${run.seed}`, group, points: ofRun(run, options), best: run.epoch,
          });
        }
      }
    }
    return made.filter((line) => line.points.some((point) => point.y !== null));
  }

  return { lines, nearest };
})();
