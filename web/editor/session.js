// What is being edited: the document, what is selected in it, and the undo history.

const DEPTH = 300; // steps that can be undone

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

  select(path, point = -1) {
    this.selection = { path, point };
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
    return { doc: this.doc, selection: this.selection };
  }

  #restore({ doc, selection }) {
    [this.doc, this.selection] = [doc, selection];
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
  }
}
