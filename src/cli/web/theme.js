// Light or dark: as the system has it, until the reader chooses.
const key = 'chorus.theme';
const system = matchMedia('(prefers-color-scheme: dark)');
const root = document.documentElement;

function chosen() {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // storage may be forbidden
  }
}

function apply() {
  root.dataset.theme = chosen() ?? (system.matches ? 'dark' : 'light');
  const button = document.querySelector('#theme');
  button?.setAttribute('aria-label',
    root.dataset.theme === 'dark' ? 'Use the light theme' : 'Use the dark theme');
  root.dispatchEvent(new Event('themechange'));
}

apply();
system.addEventListener('change', apply);
document.addEventListener('DOMContentLoaded', () => {
  apply();
  document.querySelector('#theme')?.addEventListener('click', () => {
    try {
      localStorage.setItem(key, root.dataset.theme === 'dark' ? 'light' : 'dark');
      apply();
    } catch {
      root.dataset.theme = root.dataset.theme === 'dark' ? 'light' : 'dark';
    }
  });
});
