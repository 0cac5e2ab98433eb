// What is being edited: the document, what is selected in it, and the undo history.
//
// `selection` is the leading point, whose numbers the fields show; `group` holds all selected points, the leading one
// among them, and may span paths.

const DEPTH = 300; // steps that can be undone

const same = (a, b) => a.path === b.path && a.point === b.point;

/** Selection {path, point}; -1: none. */
export class Session {
  #past = [];
  #future = [];
  #base = null; // document and selection before a drag

  constructor(doc) {
    this.replace(doc);
  }

  /** Start over with a document that came from outside. */
  replace(doc) {
    this.doc = doc;
    this.selection = { path: doc.paths.length ? 0 : -1, point: -1 };
    this.group = [];
    [this.#past, this.#future, this.#base] = [[], [], null];
  }

  get path() {
    return this.doc.paths[this.selection.path] ?? null;
  }

  get point() {
    return this.path?.points[this.selection.point] ?? null;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  get dragging() {
    return this.#base !== null;
  }

  /** Select this point alone. */
  select(path, point = -1) {
    this.selection = { path, point };
    this.group = [this.selection];
    this.#keepSelectionValid();
  }

  /** Whether a point is among the selected ones. */
  holds(path, point) {
    return this.group.some((one) => same(one, { path, point }));
  }

  /** Make one of the selected points the leading one. */
  lead(path, point) {
    if (this.holds(path, point)) this.selection = { path, point };
  }

  /** Select a point besides those that are selected, or no longer. */
  toggle(path, point) {
    const others = this.group.filter((one) => !same(one, { path, point }));
    const taken = others.length === this.group.length ? [...others, { path, point }] : others;
    this.selectGroup(taken.length ? taken : [{ path, point: -1 }]);
  }

  /** Select these points; the last of them leads. */
  selectGroup(points) {
    if (!points.length) return void this.select(this.selection.path);
    this.selection = points.at(-1);
    this.group = points;
    this.#keepSelectionValid();
  }

  /** One step that leaves every point its number: what is selected stays so. */
  editGroup(doc) {
    const { group, selection } = this;
    this.edit(doc);
    [this.group, this.selection] = [group, selection];
    this.#keepSelectionValid();
  }

  /** One step: the new document, and what is selected in it. */
  edit(doc, selection = this.selection) {
    this.commit();
    if (doc === this.doc) return void this.select(selection.path, selection.point);
    this.#remember(this.#now());
    this.doc = doc;
    this.select(selection.path, selection.point);
  }

  /** A drag: any number of `drag`, then `commit` (one step) or `cancel`. */
  begin() {
    this.#base ??= this.#now();
  }

  drag(doc) {
    this.begin();
    this.doc = doc;
    this.#keepSelectionValid();
  }

  commit() {
    const base = this.#base;
    this.#base = null;
    if (base && base.doc !== this.doc) this.#remember(base);
  }

  cancel() {
    if (this.#base) this.#restore(this.#base);
    this.#base = null;
  }

  undo() {
    this.cancel();
    this.#step(this.#past, this.#future);
  }

  redo() {
    this.cancel();
    this.#step(this.#future, this.#past);
  }

  #step(from, to) {
    const state = from.pop();
    if (!state) return;
    to.push(this.#now());
    this.#restore(state);
  }

  #now() {
    return { doc: this.doc, selection: this.selection, group: this.group };
  }

  #restore({ doc, selection, group }) {
    [this.doc, this.selection, this.group] = [doc, selection, group];
  }

  #remember(state) {
    this.#past.push(state);
    if (this.#past.length > DEPTH) this.#past.shift();
    this.#future = [];
  }

  #keepSelectionValid() {
    const path = Math.min(this.selection.path, this.doc.paths.length - 1);
    const count = this.doc.paths[path]?.points.length ?? 0;
    this.selection = { path, point: Math.min(this.selection.point, count - 1) };
    const there = this.group.filter((one) => one.point >= 0 && one.point < (this.doc.paths[one.path]?.points.length ?? 0));
    const leads = this.selection.point < 0 || there.some((one) => same(one, this.selection));
    this.group = leads ? there : [...there, this.selection];
  }
}
